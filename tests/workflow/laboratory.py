"""A project that is small enough to run many times, and helpers for the tests of staleness and kills.

The jobs of the project and their inputs are listed here by hand, so that the tests do not rely on the code under test.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml
from conftest import ROOT, TINY_ENCODER, picture, save, write_category, write_yaml

HERE = Path(__file__).parent
DATASETS, ENCODERS, METHODS = (
    ("bolts", "listed"),
    ("tiny", "filed", "both"),
    ("knn", "random", "oracle", "foundad", "fresh", "views"),
)
BANKS = ("knn", "foundad", "views")  # methods that learn from a bank; fresh learns from the drawn images
RUNS = ((1, 0), (1, 1))  # shots and seeds
SIDE = TINY_ENCODER["image_size"]  # of all encoders
SETTINGS: dict[str, dict[str, Any]] = {
    "knn": {"title": "Nearest", "detector": "knn", "bank": {"pairs": 8}},
    "random": {"title": "Random", "detector": "random", "control": True},
    "oracle": {"title": "Oracle", "detector": "oracle", "control": True},
    "foundad": {
        "title": "FoundAD",
        "detector": "foundad",
        "bank": {"pairs": 8},
        "training": {"steps": 4},
        "projector": {"depth": 1, "width": 32},
    },
    "fresh": {"base": "foundad", "title": "Fresh", "training": {"pairs": "fresh"}},
    "views": {
        "title": "Views",
        "detector": "visionad",
        "scope": "category",
        "bank": {"pairs": 6, "rotations": 2, "queries": ["clamp"]},
    },
}
TABLE = {
    "caption": "All",
    "rows": ["encoder", "method"],
    "columns": ["dataset"],
    "metrics": ["i_auroc", "strict/p_auroc"],
}
MEASURED = {"dataset": ["bolts"], "method": ["knn", "foundad"], "shots": [1]}
NAMED = {"method": "foundad", "shots": 1, "seed": 0}
EXPERIMENT: dict[str, Any] = {
    "title": "Small",
    "cells": [
        {
            "datasets": list(DATASETS),
            "encoders": list(ENCODERS),
            "methods": list(METHODS),
            "shots": [1],
            "seeds": [0, 1],
        }
    ],
    "tables": {"main": TABLE, "cost": {"kind": "efficiency", "caption": "Cost", "where": MEASURED}},
    "figures": {
        "dots": {"kind": "dots", "title": "Dots", "x": "encoder", "metrics": ["i_auroc"]},
        "gallery": {"kind": "gallery", "title": "Gallery", "dataset": "bolts", "encoder": "tiny", **NAMED},
        "seen": {"kind": "observation", "title": "Seen", "datasets": ["bolts"], "encoders": ["tiny"], **NAMED},
        "sweep": {
            "kind": "top-k",
            "title": "Sweep",
            "values": [1, 3],
            "where": {"dataset": ["listed"], "encoder": ["tiny"], "method": ["knn"], "shots": [1]},
        },
    },
}


def write_config(folder: Path, datasets: Iterable[str], encoders: Iterable[str], methods: Iterable[str]) -> None:
    """The config of datasets, encoders and methods, and that of a run of the experiment ``small``."""
    described = {
        "bolts": {"title": "Bolts", "layout": "mvtec", "root": "data/bolts"},
        "listed": {"title": "Listed", "layout": "table", "root": "data/listed", "draws": "data/draws.csv"},
    }
    for name in datasets:
        write_yaml(
            folder / f"config/datasets/{name}.yaml", described[name] | {"licence": "CC0", "source": "drawn here"}
        )
    weights = {"path": "data/weights.safetensors"}
    parts = {
        "library": "concatenation",
        "parts": ["tiny", "filed"],
        "title": "Both",
        "licence": "none",
        "source": "both",
    }
    encoded = {"tiny": TINY_ENCODER, "filed": TINY_ENCODER | {"title": "Filed", "weights": weights}, "both": parts}
    for name in encoders:
        write_yaml(folder / f"config/encoders/{name}.yaml", encoded[name])
    for name in methods:
        write_yaml(folder / f"config/methods/{name}.yaml", SETTINGS[name])
    write_yaml(folder / "config/config.yaml", {"experiments": ["small"], "device": "cpu", "warm": False})


def write_data(folder: Path) -> None:
    """Both datasets, a list of draws, and a file in the place of weights."""
    write_category(folder / "data/bolts/bolt", 0, train=3, test=2)
    write_category(folder / "data/bolts/cloth", 1000, train=3, test=2)
    rows = ["image,split,label,mask"]
    for number in range(3):
        save(picture(3000 + number)[0], folder / f"data/listed/train_{number}.bmp")
        rows.append(f"train_{number}.bmp,train,normal,")
    for number in range(2):
        save(picture(3100 + number)[0], folder / f"data/listed/normal_{number}.bmp")
        pixels, mask = picture(3200 + number, spot=True)
        save(pixels, folder / f"data/listed/defect_{number}.bmp")
        save(mask, folder / f"data/listed/mask_{number}.bmp")
        rows += [f"normal_{number}.bmp,test,0,", f"defect_{number}.bmp,test,1,mask_{number}.bmp"]
    (folder / "data/listed/images.csv").write_text("\n".join(rows) + "\n")
    drawn = "category,image,seed\nlisted,train_0.bmp,0\nlisted,train_1.bmp,1\n"
    (folder / "data/draws.csv").write_text(drawn)
    (folder / "data/weights.safetensors").write_bytes(bytes(range(200)))


def copy_workflow(folder: Path) -> None:
    """The real Snakefile, its rules and the default profile."""
    shutil.copytree(ROOT / "workflow", folder / "workflow")
    shutil.copytree(ROOT / "profiles", folder / "profiles")
    shutil.copy(ROOT / "Snakefile", folder)


def whole_project(folder: Path) -> Path:
    """The project of the matrix: its keys are computed, it is never run."""
    write_data(folder)
    write_config(folder, DATASETS, ENCODERS, METHODS)
    write_yaml(folder / "config/experiments/small.yaml", EXPERIMENT)
    grid = {"datasets": ["bolts"], "encoders": ["tiny"], "methods": ["knn"], "shots": [1], "seeds": [0]}
    other = {"title": "Other", "cells": [grid], "tables": {"one": TABLE}}
    write_yaml(folder / "config/experiments/other.yaml", other)
    write_yaml(folder / "config/config.yaml", {"experiments": ["small", "other"], "device": "cpu"})
    return folder


def small_project(folder: Path) -> Path:
    """A project that runs to its end in seconds: one dataset and encoder, two cells, every stage but the measuring ones."""
    write_data(folder)
    methods = ("knn", "oracle")
    write_config(folder, ["bolts"], ["tiny"], methods)
    grid = {"datasets": ["bolts"], "encoders": ["tiny"], "methods": list(methods), "shots": [1], "seeds": [0]}
    figures = {"gallery": EXPERIMENT["figures"]["gallery"] | {"method": "knn"}}
    values = {"title": "Small", "cells": [grid], "tables": {"main": TABLE}, "figures": figures}
    write_yaml(folder / "config/experiments/small.yaml", values)
    copy_workflow(folder)
    return folder


def change_yaml(path: Path, change: Mapping[str, Any]) -> None:
    """Lay ``change`` over a YAML file; a dotted key names one in a mapping, a number one in a list; None removes it."""
    values = yaml.safe_load(path.read_text())
    for name, value in change.items():
        place: Any = values
        *parents, last = [int(part) if part.isdigit() else part for part in name.split(".")]
        for part in parents:
            place = place[part] if isinstance(part, int) else place.setdefault(part, {})
        if value is None:
            place.pop(last, None)
        else:
            place[last] = value
    write_yaml(path, values)


# ---------------------------------------------------------------------------------------------------- jobs by hand


def reads() -> dict[str, set[str]]:
    """Job -> the jobs whose files it reads, of :func:`whole_project`; ``data:`` stands for pictures on the disk."""
    found: dict[str, set[str]] = {}
    for dataset in DATASETS:
        found[f"manifest:{dataset}/train"] = {f"data:{dataset}/train"}
        found[f"manifest:{dataset}/test"] = {f"data:{dataset}/test"}
        found[f"manifest:{dataset}/truth"] = {f"data:{dataset}/test", f"data:{dataset}/masks"}
        found[f"manifest:{dataset}/whole"] = {f"data:{dataset}/{part}" for part in ("train", "test", "masks")}
        found[f"masks:{dataset}"] = {f"manifest:{dataset}/truth"}
        found[f"overview:{dataset}"] = {f"manifest:{dataset}/whole"}
        for shots, seed in RUNS:
            found[f"draw:{dataset}/{shots}/{seed}"] = {f"manifest:{dataset}/train"}
        for encoder in ENCODERS:
            for name in (f"{encoder}/as-is", f"{encoder}/clamp"):
                found[f"features:{dataset}/{name}"] = {f"manifest:{dataset}/test"}
            for method in METHODS:
                for shots, seed in RUNS:
                    found |= _of_cell(dataset, encoder, method, f"{shots}/{seed}")
    evaluated = {name for name in found if name.startswith("evaluate:")}
    found["collect:"] = evaluated
    found["status:"] = {"collect:"}
    small = {f"manifest:{dataset}/whole" for dataset in DATASETS}
    found["table:small/main"] = found["figure:small/dots"] = {"collect:"} | small
    cost = {
        name
        for name in found
        if fnmatchcase(name, "efficiency:bolts/*/1/0") and ("/knn/" in name or "/foundad/" in name)
    }
    found["table:small/cost"] = cost | small
    found["table:other/one"] = {"collect:", "manifest:bolts/whole"}
    found["figure:small/gallery"] = {"fit:bolts/tiny/foundad/1/0", "manifest:bolts/truth"} | small
    found["figure:small/seen"] = {"observe:bolts/tiny/foundad/1/0"} | small
    sweep = {f"fit:listed/tiny/knn/{shots}/{seed}" for shots, seed in RUNS}
    found["figure:small/sweep"] = sweep | {"manifest:listed/truth"} | small
    shown = {name for name in found if name.startswith(("table:", "figure:"))}
    found["report:"] = {"collect:"} | shown
    return found


def _of_cell(dataset: str, encoder: str, method: str, run: str) -> dict[str, set[str]]:
    place, fit = (
        f"{dataset}/{encoder}/{method}/{run}",
        {f"manifest:{dataset}/test", f"features:{dataset}/{encoder}/as-is"},
    )
    found: dict[str, set[str]] = {}
    if method == "oracle":
        fit = {f"manifest:{dataset}/test", f"masks:{dataset}"}
    if method == "fresh":
        fit |= {f"draw:{dataset}/{run}"}
    if method == "views":
        fit |= {f"features:{dataset}/{encoder}/clamp"}
    if method in BANKS:
        found[f"bank:{place}"] = {f"draw:{dataset}/{run}"}
        fit |= {f"bank:{place}", f"draw:{dataset}/{run}"}
    found[f"fit:{place}"] = fit
    found[f"evaluate:{place}"] = {f"fit:{place}", f"manifest:{dataset}/test", f"masks:{dataset}"}
    found[f"observe:{place}"] = found[f"efficiency:{place}"] = {f"fit:{place}", f"manifest:{dataset}/test"}
    return found


def behind(graph: Mapping[str, set[str]], patterns: Iterable[str]) -> set[str]:
    """The jobs that match one of ``patterns``, and all that lies behind them."""
    patterns = list(patterns)
    everything = set(graph) | {name for names in graph.values() for name in names}
    reached = {name for name in everything if any(fnmatchcase(name, pattern) for pattern in patterns)}
    unused = [pattern for pattern in patterns if not any(fnmatchcase(name, pattern) for name in everything)]
    assert not unused, f"no job is called {unused}"
    while True:
        more = {name for name, names in graph.items() if name not in reached and names & reached}
        if not more:
            return {name for name in reached if not name.startswith("data:")}
        reached |= more


# ---------------------------------------------------------------------------------------------------- keys


class Planner:
    """Keys of the jobs of any project, computed by the sources in ``sources`` (a copy that tests may edit)."""

    def __init__(self, folder: Path, remember: bool = False) -> None:
        self.sources = folder
        self._first: dict[str, list[str]] | None = None
        ignored = shutil.ignore_patterns("__pycache__")
        for name in ("foundad", "baselines"):
            shutil.copytree(ROOT / name, folder / name, ignore=ignored)
        shutil.copytree(ROOT / "results/reference", folder / "results/reference")
        environment = os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
        self.process = subprocess.Popen(
            [sys.executable, HERE / "planner.py", *["remember"] * remember],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )

    def jobs(self, folder: Path, **request: Any) -> dict[str, list[str]]:
        """Name -> [identity, key] of every job of the project in ``folder``."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"folder": str(folder)} | request) + "\n")
        self.process.stdin.flush()
        found = json.loads(self.process.stdout.readline())
        assert "error" not in found, found["error"]
        jobs: dict[str, list[str]] = found["jobs"]
        return jobs

    def first(self, folder: Path) -> dict[str, list[str]]:
        """The jobs of the project that this was asked of first: for callers whose projects are equal."""
        if self._first is None:
            self._first = self.jobs(folder)
        return self._first

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def changed(before: Mapping[str, list[str]], after: Mapping[str, list[str]]) -> set[str]:
    """Jobs that ``after`` has and ``before`` has not, or not with this key."""
    return {name for name, job in after.items() if name not in before or before[name][1] != job[1]}


# ---------------------------------------------------------------------------------------------------- real runs


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "snakemake", "--cores", "2", *arguments]


def call(project: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess:
    """One call of Snakemake in ``project``."""
    environment = os.environ | variables
    return subprocess.run(
        command(*arguments), cwd=project, capture_output=True, text=True, timeout=600, env=environment
    )


def finish(project: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess:
    """A call that must succeed, without a traceback."""
    result = call(project, *arguments, **variables)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Traceback" not in result.stderr, result.stderr
    return result


def planned(project: Path, *arguments: str) -> dict[str, int]:
    """Rule -> number of jobs that a call would run."""
    text = finish(project, "--dry-run", *arguments).stdout
    if "Job stats:" not in text:
        return {}
    lines = text.split("Job stats:")[1].split("total")[0].strip().splitlines()[2:]
    return {line.split()[0]: int(line.split()[1]) for line in lines if line.split()[0] != "all"}


def numbers(project: Path) -> bytes:
    return (project / "results/metrics.parquet").read_bytes()


def copied(project: Path, to: Path) -> Path:
    """``project`` with its results and Snakemake's memory of them, times included."""
    shutil.copytree(project, to, symlinks=True)
    return to


def from_scratch(project: Path, to: Path) -> bytes:
    """The metrics that the config and data of ``project`` give where nothing was before."""
    shutil.copytree(project, to, ignore=shutil.ignore_patterns("results", ".snakemake"), symlinks=True)
    finish(to, "results/metrics.parquet")
    return numbers(to)


ALLOWED = (".*.checked.json", ".*.hashes.json", ".*.again")


def leftovers(project: Path) -> list[str]:
    """Hidden and unfinished files below the results, and beside the data, that no page of the documentation names."""
    found = [*(project / "results").rglob("*"), *(project / "data").rglob("*")]
    hidden = [path for path in found if path.name.startswith(".") or "tmp" in path.suffixes or "partial" in path.name]
    shown = [path for path in hidden if not any(fnmatchcase(path.name, pattern) for pattern in ALLOWED)]
    return sorted(str(path.relative_to(project)) for path in shown)


def markers(project: Path) -> list[str]:
    """Files below the results that are the record of a failure."""
    found = (path for path in (project / "results").rglob("*") if path.is_file())
    return sorted(str(path) for path in found if path.read_bytes()[:40].startswith(b'{"foundad_failure"'))


class Call:
    """A call of Snakemake that runs beside the test, in a process group of its own."""

    def __init__(self, project: Path, *arguments: str, **variables: str) -> None:
        self.held = project.parent / f"{project.name}-held"
        shutil.rmtree(self.held, ignore_errors=True)
        self.held.mkdir()
        variables = {"PYTHONPATH": f"{HERE / 'stall'}:{ROOT}", "STALL_FOLDER": str(self.held)} | variables
        self.log = open(project.parent / f"{project.name}.log", "w")  # noqa: SIM115 - as long as the call
        self.process = subprocess.Popen(
            command(*arguments),
            cwd=project,
            stdout=self.log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=os.environ | variables,
        )

    def wait_for_held_job(self, seconds: float = 120) -> int:
        """The process id of the job that is held; the call must not end before."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            words = sorted(self.held.iterdir())
            if words:
                return int(words[0].name)
            assert self.process.poll() is None, Path(self.log.name).read_text()
            time.sleep(0.02)
        raise AssertionError("no job was held")

    def release(self) -> None:
        """Let held jobs go on."""
        for word in self.held.iterdir():
            word.unlink()

    def kill(self, mode: str, job: int) -> int:
        """End it: the ``group``, the ``job`` alone, ``snakemake`` alone, or ``interrupt`` the group; its exit code."""
        if mode == "job":
            os.kill(job, signal.SIGKILL)
        elif mode == "snakemake":
            os.kill(self.process.pid, signal.SIGKILL)
        else:
            os.killpg(self.process.pid, signal.SIGKILL if mode == "group" else signal.SIGINT)
        return self.wait()

    def wait(self, seconds: float = 300) -> int:
        """Its exit code."""
        code = self.process.wait(seconds)
        self.log.close()
        return code

    def end(self) -> None:
        """Nothing of it may outlive the test."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def calling(project: Path, *arguments: str, **variables: str) -> Iterator[Call]:
    """A :class:`Call` that is ended whatever happens."""
    found = Call(project, *arguments, **variables)
    try:
        yield found
    finally:
        found.end()
