"""The command line: one command per stage, and the commands that people use themselves (validate, ls, plan, predict).

A command reads the config that its arguments name and then runs one stage or calls one function. An error of the user
becomes one line. Heavy modules are imported inside the commands, because the workflow starts this program for every
job.
"""

import argparse
import hashlib
import json
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foundad import failures
from foundad.arguments import parser
from foundad.config.base import Strict
from foundad.config.dataset import Dataset
from foundad.config.encoder import Encoder
from foundad.config.experiment import Experiment
from foundad.config.run import Run
from foundad.device import Compute, choose_device, limit_threads
from foundad.errors import UserError
from foundad.key import Key
from foundad.names import nearest
from foundad.paths import PARTS, WHOLE, Results
from foundad.plan import catalogue
from foundad.plan.catalogue import KINDS
from foundad.plan.project import Project
from foundad.stages.base import Stage, Task

if TYPE_CHECKING:  # imported only when needed: most jobs get their key as an option
    from foundad.api import Options
    from foundad.plan.keys import Keys

USER_ERROR, CONFIG_ERROR, INTERRUPTED = 1, 2, 130
Arguments = argparse.Namespace


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the arguments without the name of the program; None means those of this process.

    Returns:
        The exit code: 0 done, 1 failed, 2 the config is wrong (validate only), 130 interrupted.
    """
    arguments = parser(COMMANDS).parse_args(argv)
    limit_threads(getattr(arguments, "threads", None))
    try:
        code = int(arguments.command(arguments) or 0)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # The reader of the pipe closed it (`| head`). Without this, Python would complain again when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return USER_ERROR
    except UserError as error:
        print(error, file=sys.stderr)
        return CONFIG_ERROR if arguments.command is _validate else USER_ERROR
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        if failures.interrupted(error):
            return INTERRUPTED
        print(unexpected(error), file=sys.stderr)
        return USER_ERROR


def unexpected(error: Exception) -> str:
    """One line about an unexpected error. It names the file into which the full trace is written."""
    trace = "".join(traceback.format_exception(error))
    name = hashlib.sha256(trace.encode("utf-8", "replace")).hexdigest()[:8]
    path = Path(tempfile.gettempdir()) / f"foundad-trace-{name}.txt"
    try:
        path.write_text(trace, encoding="utf-8", errors="backslashreplace")
        where = f"the full trace is in {path}"
    except OSError:
        where = "its trace could not be written"
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:500]
    return f"foundad: {reason}; {where}"


# ---------------------------------------------------------------------------------------------------- stages


def _stage(arguments: Arguments) -> int:
    """Run the jobs that the command of a stage names, one after the other."""
    project = _project(arguments)
    if arguments.stage.gathers and not project.chosen:
        source = arguments.config / "config.yaml"
        project.chosen = catalogue.load_run(catalogue.read_yaml(source), str(source)).experiments
    return max(_job(arguments, project, job) for job in _jobs(arguments, project))


def _jobs(arguments: Arguments, project: Project) -> list[Stage]:
    """The job with the wildcards in ``arguments``. A manifest without a part gives the whole and all parts."""
    stage: type[Stage] = arguments.stage
    named = {field.name: getattr(arguments, field.name) for field in fields(stage)}
    given = {name: value for name, value in named.items() if value is not None}
    if "bank" in given:
        given["bank"] = project.bank_named(given["bank"])
    if stage.name == "manifest" and "part" in given:
        project.known("part", given["part"], (WHOLE, *PARTS))
    if stage.name == "manifest" and "part" not in given:
        return [stage.of(**given, part=part) for part in (WHOLE, *PARTS)]
    return [stage.of(**given)]


def _job(arguments: Arguments, project: Project, job: Stage) -> int:
    """Check the inputs and do the work. Returns the exit code.

    In the workflow a failure is recorded: it is written in place of the outputs, with the key of the job. A failure
    that may not happen again on another machine or at another time is not recorded. The job then fails, and a rerun
    tries it again.
    """
    keys = partial(_keys, arguments, project)
    key = Key.parse(arguments.key) if arguments.key else keys().of_job(job) if job.records_failure else Key("")
    inputs = project.inputs(job) if job.checks else {}
    outputs = job.writes(project.results)
    try:
        failures.require(inputs.values())
        again, beside = (vars(arguments).get(name) for name in ("again", "beside"))
        further = dict(text.split("=", 1) for text in beside or [])
        task = Task(project, key, inputs, outputs, _wanted(arguments), choose_device, keys, again or "", further)
        return job.work(task) or 0
    except Exception as error:
        if not arguments.record_failure or not job.records_failure or not failures.recordable(error):
            raise
        if isinstance(error, UserError):
            reason = str(error)
        else:
            traceback.print_exc()
            reason = " ".join(f"{type(error).__name__}: {error} {failures.place_of(error)}".split())
        failures.write_failure(outputs.values(), reason, key.own)
        print(reason, file=sys.stderr)
    return 0


def _keys(arguments: Arguments, project: Project) -> "Keys":
    """The keys of all jobs. The workflow gives the same keys for these options."""
    from foundad.plan.keys import Keys

    given = vars(arguments)
    chosen: dict[str, Any] = {name: given[name] for name in ("precision", "compile") if name in given}
    chosen["versions"] = dict(pair.split("=", 1) for pair in given.get("versions") or [])
    values = {"experiments": project.chosen or ["none"], "size": arguments.size}
    return Keys(project, Run.model_validate(values | chosen))


def _wanted(arguments: Arguments) -> Compute:
    """How to compute, as given by the options."""
    given = vars(arguments)
    return Compute(
        given.get("device", "cpu"),
        given.get("threads") or 1,
        given.get("batch_size", Compute.batch_size),
        given.get("precision", Compute.precision),
        given.get("compile", Compute.compiled),
    )


def _project(arguments: Arguments) -> Project:
    chosen = getattr(arguments, "experiments", [])
    return Project(arguments.config, arguments.size, _results(arguments), chosen)


# ---------------------------------------------------------------------------------------------------- around them


def _validate(arguments: Arguments) -> int:
    from foundad.plan.selection import Plan

    for size in catalogue.SIZES:
        found = catalogue.load_catalogue(arguments.config, size)
    base = arguments.config / "config.yaml"
    runs = [*([path] for path in arguments.run), *[arguments.configfile] * bool(arguments.configfile)] or [[base]]
    for paths in runs:
        values = catalogue.read_yaml(base)
        for path in paths:
            values |= catalogue.read_yaml(path)
        Plan(values, arguments.config, ", ".join(map(str, paths)))
    counts = ", ".join(f"{len(getattr(found, kind))} {kind}" for kind in KINDS)
    print(f"{arguments.config}: {counts}: all valid")
    return 0


def _ls(arguments: Arguments) -> int:
    found = catalogue.load_catalogue(arguments.config, arguments.size)
    for kind in [arguments.kind] if arguments.kind else list(KINDS):
        print(kind)
        things = getattr(found, kind)
        width = max(map(len, things), default=0)
        for name, thing in things.items():
            print(f"  {name:<{width}}  {thing.title}{_detail(found, thing)}")
    return 0


def _plan(arguments: Arguments) -> int:
    from foundad.plan.outlook import GIGABYTE, Room, as_text
    from foundad.plan.selection import Plan

    catalogue.require_folder(arguments.config)
    values = catalogue.read_yaml(arguments.config / "config.yaml")
    for path in arguments.configfile:
        values |= catalogue.read_yaml(path)
    source = ", ".join(map(str, [arguments.config / "config.yaml", *arguments.configfile]))
    print(as_text(Plan(values, arguments.config, source), Room(arguments.jobs, arguments.disk * GIGABYTE)))
    return 0


def _rehearse(arguments: Arguments) -> int:
    from foundad.rehearsal.project import make
    from foundad.rehearsal.running import run
    from foundad.rehearsal.summary import plan_of, summary

    base = arguments.config / "config.yaml"
    catalogue.require_folder(arguments.config)
    values = catalogue.read_yaml(base)
    for path in arguments.configfile:
        values |= catalogue.read_yaml(path)
    named = ", ".join(map(str, arguments.configfile or [base]))
    rehearsal = make(values, arguments.config, named, arguments.out, arguments.seeds)
    plan, cores = plan_of(rehearsal), arguments.cores or os.cpu_count() or 1
    print(
        f"{rehearsal.folder}: {len(plan.cells)} cells of {len(plan.experiments)} experiments, {cores} cores", flush=True
    )
    found = summary(rehearsal, plan, run(rehearsal, cores, len(plan.cells)), cores)
    print(found.text)
    return 0 if found.whole else 1


def _detail(found: catalogue.Catalogue, thing: Strict) -> str:
    if isinstance(thing, Experiment):
        return f" ({len(found.cells(thing))} cells)"
    if isinstance(thing, Encoder):
        return f" ({thing.image_size} px, {thing.grid} x {thing.grid} tokens of {thing.channels} channels)"
    if isinstance(thing, Dataset):
        return f" ({thing.licence})"
    return ""


def _compare(arguments: Arguments) -> int:
    folders = [_is_folder(text) for text in (arguments.a, arguments.b)]
    if all(folders):
        return _compare_folders(arguments)
    if any(folders):
        raise UserError(f"compare: {arguments.a} and {arguments.b}: name two methods, or two results folders")
    if arguments.tolerance is not None or arguments.json:
        raise UserError("compare: --tolerance and --json are for two results folders; of methods the test decides")
    from foundad.metrics.registry import MAIN
    from foundad.report.compare import as_text, compare_methods

    rows = compare_methods(_results(arguments), arguments.a, arguments.b, arguments.metric or MAIN)
    print(as_text(rows, arguments.a, arguments.b))
    return 1 if any(row.worse for row in rows) else 0


def _is_folder(text: str) -> bool:
    """Whether an argument of ``compare`` is a results folder or its metrics; a method's id holds no slash."""
    path = Path(text)
    return os.sep in text or path.suffix == ".parquet" or Results(path).metrics.is_file()


def _compare_folders(arguments: Arguments) -> int:
    from foundad.folders.differences import differences
    from foundad.folders.shown import as_json, as_text

    a, b = arguments.a, arguments.b
    found = differences(Path(a), Path(b), arguments.metric or (), arguments.tolerance or 0.0)
    print(json.dumps(as_json(found, a, b), indent=1) if arguments.json else as_text(found, a, b))
    return 0 if found.equal else 1


def _rank(arguments: Arguments) -> int:
    from foundad.metrics.registry import MAIN
    from foundad.report.compare import rank_methods, ranking_text

    for metric in arguments.metric or MAIN:
        print(ranking_text(rank_methods(_results(arguments), arguments.methods, metric), metric))
    return 0


def _merge(arguments: Arguments) -> int:
    from foundad.folders.merge import merge

    done = merge(arguments.sources, arguments.into, arguments.keep == "newest")
    parts = [f"{count} of {path}" for path, count in done.taken.items()]
    print(f"{arguments.into}: {done.cells} cells; new: {', '.join(parts)}; {done.files} files written")
    return 0


def _data_check(arguments: Arguments) -> int:
    from foundad.data.check import check

    code = 0
    for name in arguments.datasets:
        results = _results(arguments)
        dataset = results.located(_one(arguments, "datasets", name))
        code = max(code, check(dataset, arguments.threads or 1, results.checked(name), arguments.deep))
    return code


def _data_get(arguments: Arguments) -> int:
    from foundad.data.get import get

    get(_one(arguments, "datasets", arguments.dataset), arguments.accept_licence, arguments.archive, arguments.to)
    return 0


def _weights(arguments: Arguments) -> int:
    from foundad.encoders.identity import cached_commit, weight_owners
    from foundad.encoders.weights import find_weights
    from foundad.files import sha256

    found = catalogue.load_catalogue(arguments.config, arguments.size).encoders
    names = list(found) if arguments.encoders == ["all"] else arguments.encoders
    unknown = [name for name in names if name not in found]
    if unknown:
        raise UserError("\n".join(f"there is no encoder '{n}'{nearest(n, found)}" for n in unknown))
    errors = []
    for encoder in weight_owners(found[name] for name in names):
        try:
            path = find_weights(encoder, download=True)
            size = f"{path.stat().st_size / 2**20:.0f} MiB"
            # The config keys that pin this file.
            commit = cached_commit(path)
            pins = ([] if commit is None else [f"revision: {commit}"]) + [f"sha256: {sha256(path)}"]
            print("\t".join([encoder.id, str(path), size, encoder.licence, *pins]), flush=True)
        except UserError as error:
            errors.append(str(error))
    if errors:
        raise UserError("\n".join(errors))
    return 0


def _import_checkpoint(arguments: Arguments) -> int:
    from foundad.method.checkpoint import import_checkpoint
    from foundad.method.settings import Settings

    method = _one(arguments, "methods", arguments.method)
    if not isinstance(method, Settings):
        raise UserError(f"{method.file}: key 'detector': is {method.detector}, not foundad")
    encoder = _one(arguments, "encoders", arguments.encoder)
    import_checkpoint(arguments.checkpoint, method, encoder, arguments.top_k, arguments.out)
    print(arguments.out)
    return 0


def _export_checkpoint(arguments: Arguments) -> int:
    from foundad.method.checkpoint import export_checkpoint

    model = arguments.model / "model.safetensors" if arguments.model.is_dir() else arguments.model
    export_checkpoint(model, arguments.out)
    print(arguments.out)
    return 0


def _export(arguments: Arguments) -> int:
    from foundad.exporting import export_onnx

    export_onnx(arguments.run, arguments.onnx, arguments.category)
    print(arguments.onnx)
    return 0


def _predict(arguments: Arguments) -> int:
    from foundad.predict import predict

    options: Options = {"device": arguments.device, "precision": arguments.precision, "threads": arguments.threads or 1}
    predict(arguments.run, arguments.images, arguments.category, arguments.out, arguments.page, **options)
    return 0


def _run(arguments: Arguments) -> int:
    from foundad.own.project import Wanted
    from foundad.own.run import run

    names = ("pictures", "out", "shots", "seeds", "encoder", "device", "config")
    wanted = Wanted(**{name: getattr(arguments, name) for name in names})
    return run(wanted, arguments.cores, arguments.dry_run)


def _results(arguments: Arguments) -> Results:
    return Results(arguments.results)


def _one(arguments: Arguments, kind: str, name: str) -> Any:
    return catalogue.load_one(arguments.config, kind, name, arguments.size)


COMMANDS: dict[str, Callable[[Arguments], int]] = {
    "stage": _stage,
    "validate": _validate,
    "ls": _ls,
    "plan": _plan,
    "rehearse": _rehearse,
    "compare": _compare,
    "rank": _rank,
    "merge": _merge,
    "weights": _weights,
    "run": _run,
    "predict": _predict,
    "export": _export,
    "import-checkpoint": _import_checkpoint,
    "export-checkpoint": _export_checkpoint,
    "data check": _data_check,
    "data get": _data_get,
}


if __name__ == "__main__":
    sys.exit(main())
