"""The command ``foundad run``: says what was taken for what, runs Snakemake in the project, and says what came out."""

import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from foundad.errors import MachineError
from foundad.own.outcome import Outcome, outcome
from foundad.own.project import EXPERIMENT, Own, Wanted, make
from foundad.plan.catalogue import load_one
from foundad.plan.copies import environment

LOG = "run.log"  # what Snakemake said
TELL = 20.0  # seconds between two lines of progress
PAGE = "gallery.html"  # test pictures and unlabelled ones, with the chosen model's maps
PROGRESS = re.compile(r"\[|Select jobs|Execute \d|Finished jobid|\d+ of \d+ steps")
TOLD = 12  # lines of the log that are printed where a job failed
SHOWN = 5  # lines of each kind of remark
HIGHEST = 10  # unlabelled pictures that are printed


def run(wanted: Wanted, cores: int | None = None, dry: bool = False) -> int:
    """Make the project of a folder, run it, and print table, gallery, recommendation and model; the exit code.

    Raises:
        UserError: the folder cannot be used.
        MachineError: the encoder's weights are not on this machine.
    """
    _require_weights(wanted)
    own = make(wanted)
    print("\n".join(told(own)), flush=True)
    if dry:
        print(f"\nnext: cd {own.folder} && snakemake --cores all", flush=True)
        return 0
    code = _snakemake(own, cores or os.cpu_count() or 1)
    if code:
        print(
            "\n".join([*_said(own.folder / LOG), f"Snakemake exited with code {code}; see {own.folder / LOG}"]),
            file=sys.stderr,
        )
    if not own.results.runs.is_file():
        return 1
    found = outcome(own)
    print("\n".join(["", *found.lines, *_scored(own, found, wanted.device), "", *_places(own, found.model)]))
    return int(code != 0)


def _require_weights(wanted: Wanted) -> None:
    from foundad.encoders.identity import weight_owners
    from foundad.encoders.weights import find_weights

    for encoder in weight_owners([load_one(wanted.config, "encoders", wanted.encoder)]):
        if encoder.weights != "random":
            find_weights(encoder)


def told(own: Own) -> list[str]:
    """What was taken for what."""
    known = own.understood.known
    lines = [f"{own.understood.root}: taken as" + (f" the layout {known} of a known dataset" if known else "")]
    kinds: Counter[tuple[str, str]] = Counter()
    for picture in own.split.pictures:
        use = "to learn from" if picture.split == "train" else "to test"
        what = f"defective ({picture.defect})" if picture.label else "normal"
        kinds[picture.category, f"{what}, {use}" + ", with masks" * bool(picture.mask)] += 1
    for (category, kind), count in kinds.items():
        lines.append(f"  {category + ': ' if category else ''}{count} {kind}")
    if own.split.scored:
        lines.append(f"  {len(own.split.scored)} unlabelled: scored at the end, part of no number")
    lines += [f"  {line}" for line in own.split.said]
    for reason, names in own.understood.left_out.items():
        lines.append(f"  left out: {len(names)} {reason} (first: {names[0].encode('utf-8', 'replace').decode()})")
    lines += [f"  left out: {line}" for line in own.unreadable[:SHOWN]]
    if len(own.unreadable) > SHOWN:
        lines.append(f"  left out: and {len(own.unreadable) - SHOWN} more like these")
    return [*lines, "", *_planned(own)]


def _planned(own: Own) -> Iterator[str]:
    methods = ", ".join(method.label for method in own.methods.values())
    yield f"{own.shots} normal pictures per category, encoder {own.encoder}: {methods}"
    if own.split.labelled:
        yield f"{own.seeds} seeds, beside two controls"
    else:
        yield f"no defective picture: each normal one is left out of one of {len(own.folds)} further models and scored by it"
    yield f"project: {own.folder}"
    yield "  config/config.yaml: the run"
    yield f"  config/experiments/{EXPERIMENT}.yaml: cells, tables, figures"
    more = f", and {len(own.folds)} that leave pictures out" if own.folds else ""
    yield f"  config/datasets/{own.dataset}.yaml{more}"
    yield f"  data/{own.dataset}/images.csv: the list of the pictures"


def _snakemake(own: Own, cores: int) -> int:
    """Run the project's workflow and print a line of progress now and then; returns the exit code."""
    command = [sys.executable, "-m", "snakemake", "--cores", str(cores), "--keep-going", "--rerun-incomplete"]
    seeds = own.seeds if own.split.labelled else 1 + len(own.folds)
    total = seeds * (len(own.methods) + 2 * own.split.labelled)
    started = told_at = time.monotonic()
    try:
        with (own.folder / LOG).open("w") as log:
            process = subprocess.Popen(command, cwd=own.folder, stdout=log, stderr=log, env=environment())
    except OSError as error:
        raise MachineError(f"{own.folder / LOG}: cannot be written: {error.strerror or error}") from None
    try:
        while process.poll() is None:
            time.sleep(0.2)
            if time.monotonic() - told_at >= TELL:
                told_at = time.monotonic()
                done = sum(1 for _ in (own.results.root / "cells").glob("*/*/*/*/metrics.parquet"))
                print(f"{told_at - started:6.0f} s  {min(done, total)} of {total} cells", flush=True)
    finally:
        if process.poll() is None:  # this process was interrupted: Snakemake ends its jobs
            process.terminate()
            process.wait()
    return process.returncode


def _said(log: Path) -> list[str]:
    """The last lines of Snakemake's log that do not only count jobs."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return [line for line in lines if line.strip() and not PROGRESS.match(line)][-TOLD:]


def _scored(own: Own, found: Outcome, device: str) -> list[str]:
    """Score the test pictures and the unlabelled ones with the chosen model, for the page; lines about the unlabelled."""
    from foundad.api import Detector
    from foundad.predict import write_page

    tested = [picture for picture in own.split.pictures if picture.split == "test"]
    paths = [own.understood.root / picture.path for picture in [*tested, *own.split.scored]]
    label = own.methods[found.method].label
    predicted = Detector.load(found.model, device=device).predict(paths, strict=False)
    model = f"{label}, {own.encoder}, {own.shots} normal pictures: {found.model}"
    write_page(predicted, model, own.folder / PAGE, f"Pictures of {own.understood.root.resolve().name}")
    unlabelled = {str(own.understood.root / picture.path) for picture in own.split.scored}
    if not unlabelled:
        return []
    rows = [
        row for row in zip(predicted.names, predicted.scores, predicted.verdicts, strict=True) if row[0] in unlabelled
    ]
    rows.sort(key=lambda row: -row[1])
    anomalous = sum(verdict == "anomalous" for *_, verdict in rows)
    lines = ["", f"unlabelled pictures: {label} calls {anomalous} of {len(rows)} anomalous; the highest scores:"]
    return lines + [f"  {score:.4g}  {verdict}  {name}" for name, score, verdict in rows[:HIGHEST]]


def _places(own: Own, model: Path) -> list[str]:
    """Where everything lies, and what to call next."""
    lines = [f"model    {model.parent}", f"gallery  {own.folder / PAGE}"]
    figures = sorted(own.results.root.glob(f"figures/{EXPERIMENT}/gallery-*.png"))
    lines += [f"gallery  {path}" for path in figures]
    lines.append(f"page     {own.results.report}")
    lines.append(f"next     foundad predict --run {model.parent} PICTURE ...")
    lines.append(f"         cd {own.folder}, change config/, and call: snakemake --cores all")
    return lines
