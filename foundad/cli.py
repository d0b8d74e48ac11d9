"""The command line: one subcommand a stage, and what people need around them (validate, ls, predict, status).

It parses arguments, reads the config of the things that are named, calls one function, and turns a UserError into one
line. Heavy imports happen inside the commands, because the workflow starts this program for every job.
"""

import argparse
import hashlib
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from foundad import __version__, config, failures
from foundad.device import Compute, choose_device, limit_threads
from foundad.errors import BrokenFile, UserError
from foundad.key import Key
from foundad.paths import PARTS, WHOLE, Cell, Results
from foundad.plan import catalogue

if TYPE_CHECKING:  # most jobs are given their key
    from foundad.plan.keys import Keys

USER_ERROR, CONFIG_ERROR = 1, 2
COMPARED = ["i_auroc", "strict/p_auroc", "strict/aupro_30"]
Arguments = argparse.Namespace


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; returns the exit code (0 done, 1 failed, 2 the config is wrong)."""
    arguments = _parser().parse_args(argv)
    limit_threads(getattr(arguments, "threads", None))
    try:
        code = int(arguments.command(arguments) or 0)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # Whoever read has seen enough (`| head`). Python would complain once more when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return USER_ERROR
    except UserError as error:
        print(error, file=sys.stderr)
        return CONFIG_ERROR if arguments.command is _validate else USER_ERROR
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        print(unexpected(error), file=sys.stderr)
        return USER_ERROR


def unexpected(error: Exception) -> str:
    """One line for what nobody foresaw, with the file that holds the full trace."""
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


def _stage(arguments: Arguments, key: Key, inputs: list[Path], outputs: list[Path], work: Callable[[], None]) -> int:
    """Check the inputs and do the work; in the workflow a failure is recorded in the outputs' place, under the job's key.

    What another machine or another time would not stumble over is never recorded: the job fails and a rerun does it again.
    """
    try:
        failures.require(inputs)
        work()
    except Exception as error:
        if not arguments.record_failure or not failures.recordable(error):
            raise
        if isinstance(error, UserError):
            reason = str(error)
        else:
            traceback.print_exc()
            reason = " ".join(f"{type(error).__name__}: {error}".split())
        failures.write_failure(outputs, reason, key.own)
        print(reason, file=sys.stderr)
    return 0


def _keys(arguments: Arguments) -> "Keys":
    """The keys of all jobs, as the workflow would give them with these options."""
    from foundad.plan.keys import Keys

    found = catalogue.load_catalogue(arguments.config, arguments.size)
    names = getattr(arguments, "experiments", [])
    chosen = {
        name: getattr(arguments, name) for name in ("precision", "compile", "versions") if hasattr(arguments, name)
    }
    chosen["versions"] = dict(pair.split("=", 1) for pair in chosen.get("versions") or [])
    run = config.Run.model_validate({"experiments": names or ["none"], "size": arguments.size} | chosen)
    return Keys(found, _results(arguments), run, [_experiment(found, name) for name in names])


def _key(arguments: Arguments, stage: str, *parts: object) -> Key:
    """The key that the workflow gave to this job, or the one that it would give."""
    return Key.parse(arguments.key) if arguments.key else _keys(arguments).of(stage, *parts)


def _compute(arguments: Arguments, uses_device: bool = True) -> Compute:
    """What the options ask for; takes a GPU where it says so, hence before torch is imported."""
    device = choose_device(arguments.device) if uses_device else "cpu"
    batch_size = getattr(arguments, "batch_size", Compute.batch_size)
    compiled = getattr(arguments, "compile", Compute.compiled)
    return Compute(device, arguments.threads or 1, batch_size, arguments.precision, compiled)


def _textures(arguments: Arguments) -> int:
    from foundad.data.textures import write_textures

    write_textures(_results(arguments).data("textures"))
    return 0


def _manifest(arguments: Arguments) -> int:
    results = _results(arguments)
    dataset = results.located(_one(arguments, "datasets", arguments.dataset))
    parts = [arguments.part] if arguments.part else [WHOLE, *PARTS]
    keys = {part: _key(arguments, "manifest", dataset.id, part) for part in parts}

    def work() -> None:
        from foundad.data.manifest import part_of, write_manifest
        from foundad.data.verify import build_manifest
        from foundad.files import lock

        checked = results.checked(dataset.id)
        with lock(checked.with_suffix(".lock")):  # one reads all files, the others what it found out
            manifest = build_manifest(dataset, arguments.threads or 1, checked)
        for part, key in keys.items():
            write_manifest(part_of(manifest, part), results.manifest(dataset.id, part), key.own)

    outputs = [results.manifest(dataset.id, part) for part in parts]
    outputs += [results.ledger(dataset.id)] * (WHOLE in parts)
    return _stage(arguments, keys[parts[0]], [], outputs, work)


def _draw(arguments: Arguments) -> int:
    results = _results(arguments)
    dataset = _one(arguments, "datasets", arguments.dataset)
    manifest = results.manifest(arguments.dataset, "train")
    out = results.draw(arguments.dataset, arguments.shots, arguments.seed)
    key = _key(arguments, "draw", arguments.dataset, arguments.shots, arguments.seed)

    def work() -> None:
        from foundad.data.draws import draw, listed_draw, write_draw
        from foundad.data.manifest import read_manifest

        rows = read_manifest(manifest, key.of("manifest"))
        if dataset.draws is None:
            drawn = draw(rows, arguments.shots, arguments.seed)
        else:
            drawn = listed_draw(rows, dataset.expanded_draws, arguments.shots, arguments.seed)
        write_draw(drawn, out, key.own)

    return _stage(arguments, key, [manifest], [out], work)


def _features(arguments: Arguments) -> int:
    results = _results(arguments)
    name, _, query = arguments.encoder.partition("@")
    if query:
        _known("query view", query, get_args(config.QueryView))
    encoder = _one(arguments, "encoders", name)
    manifest = results.manifest(arguments.dataset, "test")
    out = results.features(arguments.dataset, encoder.id, query)
    key = _key(arguments, "features", arguments.dataset, arguments.encoder)

    def work() -> None:
        compute = _compute(arguments)  # before torch is imported
        from foundad.data.manifest import read_manifest
        from foundad.encoders.extraction import extract_features

        rows = read_manifest(manifest, key.of("manifest"))
        extract_features(rows, _root(arguments), encoder, out, compute, query, key.own)

    return _stage(arguments, key, [manifest], [out, out.with_suffix(".json")], work)


def _bank(arguments: Arguments) -> int:
    from foundad.plan.selection import bank_id, method_of_bank

    results = _results(arguments)
    encoder = _one(arguments, "encoders", arguments.encoder)
    method = method_of_bank(arguments.config, arguments.bank, arguments.size)
    draw = results.draw(arguments.dataset, arguments.shots, arguments.seed)
    place = (arguments.dataset, encoder.id, arguments.shots, arguments.seed, bank_id(method))
    out, key = results.bank(*place), _key(arguments, "bank", *place)

    def work() -> None:
        compute = _compute(arguments)  # before torch is imported
        from foundad.data.draws import read_draw
        from foundad.method.pairs.encoder import build_bank

        drawn = read_draw(draw, key.of("draw"))
        build_bank(drawn, _root(arguments), method.bank, encoder, out, compute, key.own)

    return _stage(arguments, key, [draw], [out], work)


def _fit(arguments: Arguments) -> int:
    from foundad.plan.selection import bank_id

    results, cell = _results(arguments), _cell(arguments)
    dataset = _one(arguments, "datasets", cell.dataset)
    encoder = _one(arguments, "encoders", cell.encoder)
    method = _one(arguments, "methods", cell.method)
    out = results.cell(cell)
    manifest = results.manifest(cell.dataset, "truth" if "truth" in method.needs else "test")
    key = _key(arguments, "fit", *vars(cell).values())
    views = ("", *method.bank.queries) if "features" in method.needs else ()
    features = {view: results.features(cell.dataset, cell.encoder, view) for view in views}
    bank = None
    if "bank" in method.needs:
        bank = results.bank(cell.dataset, cell.encoder, cell.shots, cell.seed, bank_id(method))
    draw = results.draw(cell.dataset, cell.shots, cell.seed) if "images" in method.needs else None

    def work() -> None:
        compute = _compute(arguments, method.uses_device)
        from foundad.data.manifest import read_manifest
        from foundad.detection.fitting import fit_cell

        fit_cell(
            cell,
            method,
            encoder,
            method.top_k or dataset.top_k,
            read_manifest(manifest, key.of("manifest")),
            _root(arguments),
            bank,
            draw,
            features,
            out,
            compute,
            key,
        )

    inputs = [path for path in (manifest, bank, draw, *features.values()) if path is not None]
    outputs = [out / name for name in ("model.safetensors", "scores.safetensors", "record.json")]
    return _stage(arguments, key, inputs, outputs, work)


def _evaluate(arguments: Arguments) -> int:
    results, cell = _results(arguments), _cell(arguments)
    encoder = _one(arguments, "encoders", cell.encoder)
    method = _one(arguments, "methods", cell.method)
    manifest = results.manifest(cell.dataset, "truth")
    key = _key(arguments, "evaluate", *vars(cell).values())
    scores, out = results.cell(cell) / "scores.safetensors", results.cell(cell) / "metrics.parquet"

    def work() -> None:
        from foundad.data.manifest import read_manifest
        from foundad.metrics.evaluation import evaluate_cell

        device = "cpu" if arguments.device == "cpu" else choose_device(arguments.device)
        device = "cpu" if device == "mps" else device  # it has no float64
        rows, root = read_manifest(manifest, key.of("manifest")), _root(arguments)
        evaluate_cell(cell, rows, root, scores, encoder.image_size, out, method.smoothing, device, key)

    return _stage(arguments, key, [manifest, scores], [out], work)


def _observe(arguments: Arguments) -> int:
    results, cell = _results(arguments), _cell(arguments)
    encoder = _one(arguments, "encoders", cell.encoder)
    manifest, model = results.manifest(cell.dataset, "test"), results.cell(cell) / "model.safetensors"
    key = _key(arguments, "observe", *vars(cell).values())

    def work() -> None:
        compute = _compute(arguments)  # before torch is imported
        from foundad.data.manifest import read_manifest
        from foundad.method.observation import observe

        rows = read_manifest(manifest, key.of("manifest"))
        observe(rows, _root(arguments), encoder, model, results.observation(cell), compute, key)

    return _stage(arguments, key, [manifest, model], [results.observation(cell)], work)


def _efficiency(arguments: Arguments) -> int:
    results, cell = _results(arguments), _cell(arguments)
    encoder = _one(arguments, "encoders", cell.encoder)
    manifest, folder = results.manifest(cell.dataset, "test"), results.cell(cell)
    key = _key(arguments, "efficiency", *vars(cell).values())
    model, record, out = folder / "model.safetensors", folder / "record.json", results.efficiency(cell)

    def work() -> None:
        compute = _compute(arguments)  # before torch is imported
        from foundad.data.manifest import read_manifest
        from foundad.detection.efficiency import measure

        rows, root = read_manifest(manifest, key.of("manifest")), _root(arguments)
        drawn = cell.shots * len({row.category for row in rows.rows})
        measure(rows, root, encoder, drawn, model, record, out, compute, key)

    return _stage(arguments, key, [manifest, model, record], [out], work)


def _collect(arguments: Arguments) -> int:
    from foundad.report.collect import collect

    keys = _keys(arguments)
    cells = [cell for experiment in keys.experiments for cell in keys.catalogue.cells(experiment)]
    if arguments.key and keys.of("collect").own != Key.parse(arguments.key).own:
        raise BrokenFile("data, weights, config or sources changed while this run was going on; call it again")
    wanted = {cell: (keys.of_cell("fit", cell).own, keys.of_cell("evaluate", cell).own) for cell in cells}
    collect(wanted, _results(arguments))
    return 0


def _table(arguments: Arguments) -> int:
    from foundad.report.tables import write_table

    found = catalogue.load_catalogue(arguments.config, arguments.size)
    experiment = _experiment(found, arguments.experiment)
    _known("table", arguments.name, experiment.tables)
    write_table(_results(arguments), found, experiment, arguments.name)
    return 0


def _figure(arguments: Arguments) -> int:
    from foundad.report.figures import write_figure

    found = catalogue.load_catalogue(arguments.config, arguments.size)
    experiment = _experiment(found, arguments.experiment)
    _known("figure", arguments.name, experiment.figures)
    write_figure(_results(arguments), found, experiment, arguments.name)
    return 0


def _overview(arguments: Arguments) -> int:
    results = _results(arguments)
    dataset = results.located(_one(arguments, "datasets", arguments.dataset))
    out = results.overview(dataset.id, "png")
    key = _key(arguments, "overview", dataset.id)

    def work() -> None:
        from foundad.data.location import image_root
        from foundad.data.manifest import read_manifest
        from foundad.report.overview import write_overview

        rows = read_manifest(results.manifest(dataset.id), key.of("manifest"))
        write_overview(dataset, rows, image_root(dataset), out)

    outputs = [out.with_suffix(f".{suffix}") for suffix in ("png", "pdf", "csv")]
    return _stage(arguments, key, [results.manifest(dataset.id)], outputs, work)


def _report(arguments: Arguments) -> int:
    from foundad.report.page import write_page

    found = catalogue.load_catalogue(arguments.config, arguments.size)
    source = arguments.config / "config.yaml"
    names = arguments.experiments or catalogue.load_run(catalogue.read_yaml(source), str(source)).experiments
    results = _results(arguments)
    write_page(results, found, [_experiment(found, name) for name in names])
    print(results.report)
    return 0


def _status(arguments: Arguments) -> int:
    from foundad.status import write_status

    return write_status(_results(arguments))


# ---------------------------------------------------------------------------------------------------- around them


def _validate(arguments: Arguments) -> int:
    from foundad.plan.selection import Plan

    for size in catalogue.SIZES:
        found = catalogue.load_catalogue(arguments.config, size)
    base = arguments.config / "config.yaml"
    for path in arguments.run or [base]:
        Plan(catalogue.read_yaml(base) | catalogue.read_yaml(path), arguments.config, str(path))
    counts = ", ".join(f"{len(getattr(found, kind))} {kind}" for kind in config.KINDS)
    print(f"{arguments.config}: {counts}: all valid")
    return 0


def _ls(arguments: Arguments) -> int:
    found = catalogue.load_catalogue(arguments.config, arguments.size)
    for kind in [arguments.kind] if arguments.kind else list(config.KINDS):
        print(kind)
        things = getattr(found, kind)
        width = max(map(len, things), default=0)
        for name, thing in things.items():
            print(f"  {name:<{width}}  {thing.title}{_detail(found, thing)}")
    return 0


def _plan(arguments: Arguments) -> int:
    from foundad.plan.cost import as_text
    from foundad.plan.selection import Plan

    catalogue.require_folder(arguments.config)
    values = catalogue.read_yaml(arguments.config / "config.yaml")
    for path in arguments.configfile:
        values |= catalogue.read_yaml(path)
    print(as_text(Plan(values, arguments.config)))
    return 0


def _detail(found: catalogue.Catalogue, thing: config.Strict) -> str:
    if isinstance(thing, config.Experiment):
        return f" ({len(found.cells(thing))} cells)"
    if isinstance(thing, config.Encoder):
        return f" ({thing.image_size} px, {thing.grid} x {thing.grid} tokens of {thing.channels} channels)"
    if isinstance(thing, config.Dataset):
        return f" ({thing.licence})"
    return ""


def _compare(arguments: Arguments) -> int:
    from foundad.report.compare import as_text, compare_methods

    rows = compare_methods(_results(arguments), arguments.a, arguments.b, arguments.metric or COMPARED)
    print(as_text(rows, arguments.a, arguments.b))
    return 1 if any(row.worse for row in rows) else 0


def _rank(arguments: Arguments) -> int:
    from foundad.report.compare import rank_methods, ranking_text

    for metric in arguments.metric or COMPARED:
        print(ranking_text(rank_methods(_results(arguments), arguments.methods, metric), metric))
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
        raise UserError("\n".join(f"there is no encoder '{n}'{catalogue.nearest(n, found)}" for n in unknown))
    errors = []
    for encoder in weight_owners(found[name] for name in names):
        try:
            path = find_weights(encoder, download=True)
            size = f"{path.stat().st_size / 2**20:.0f} MiB"
            # The keys of the config that pin these bytes.
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
        raise UserError(f"config/methods/{method.id}.yaml: key 'detector': is {method.detector}, not foundad")
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


def _predict(arguments: Arguments) -> int:
    device = choose_device(arguments.device)  # before torch is imported
    from foundad.predict import predict

    predict(arguments.run, arguments.images, arguments.category, arguments.out, device, arguments.precision)
    return 0


def _results(arguments: Arguments) -> Results:
    return Results(arguments.results)


def _cell(arguments: Arguments) -> Cell:
    return Cell(arguments.dataset, arguments.encoder, arguments.method, arguments.shots, arguments.seed)


def _one(arguments: Arguments, kind: str, name: str) -> Any:
    return catalogue.load_one(arguments.config, kind, name, arguments.size)


def _root(arguments: Arguments) -> Path:
    from foundad.data.location import image_root

    return image_root(_results(arguments).located(_one(arguments, "datasets", arguments.dataset)))


def _experiment(found: catalogue.Catalogue, name: str) -> config.Experiment:
    _known("experiment", name, found.experiments)
    return found.experiments[name]


def _known(kind: str, name: str, known: Iterable[str]) -> None:
    """UserError that names the nearest where ``name`` is none of the ``known``."""
    known = list(known)
    if name not in known:
        raise UserError(f"there is no {kind} '{name}'{catalogue.nearest(name, known)}")


# ---------------------------------------------------------------------------------------------------- arguments


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="foundad", description=__doc__.split("\n")[0])
    parser.add_argument("--version", action="version", version=f"foundad {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[Arguments], int], text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(command=run)
        sub.add_argument("--config", type=Path, default=catalogue.FOLDER, metavar="DIR", help="default: config")
        sub.add_argument("--size", choices=catalogue.SIZES, default=catalogue.DEMO, help="of the run (default: demo)")
        return sub

    def stage(name: str, run: Callable[[Arguments], int], text: str, *positional: str) -> argparse.ArgumentParser:
        sub = command(name, run, text)
        for argument in positional:
            sub.add_argument(argument)
        sub.add_argument("--results", type=Path, default=Path("results"), metavar="DIR", help="default: results")
        sub.add_argument("--record-failure", action="store_true", help="leave a failure's reason in the outputs' place")
        sub.add_argument("--key", metavar="KEY", help="of the job and its inputs, as the workflow gives it")
        return sub

    def draws(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--shots", type=int, required=True, help="normal images a category")
        sub.add_argument("--seed", type=int, required=True)

    def compute(sub: argparse.ArgumentParser, batches: bool = True, compiles: bool = True) -> None:
        sub.add_argument("--device", default="auto", help="auto, cpu, mps, cuda or cuda:N (default: auto)")
        sub.add_argument("--precision", default="float32", choices=get_args(config.Precision), help="default: float32")
        if compiles:
            sub.add_argument("--compile", action="store_true", help="torch.compile: half a minute a job at first")
        if batches:
            sub.add_argument("--batch-size", type=int, default=32, help="images an encoder call (default: 32)")

    def threads(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--threads", type=int, help="threads (default: 1 to encode, else as the libraries choose)")

    sub = command("validate", _validate, "check every YAML file and say all that is wrong at once")
    sub.add_argument("run", type=Path, nargs="*", help="run configs to check as well (default: config/config.yaml)")
    sub = command("ls", _ls, "list datasets, encoders, methods and experiments")
    sub.add_argument("kind", nargs="?", choices=list(config.KINDS))
    sub = command("plan", _plan, "say what a run consists of: cells, encoder passes, estimated GPU hours and disk")
    sub.add_argument(
        "--configfile", type=Path, nargs="+", default=[], metavar="FILE", help="laid over config/config.yaml"
    )
    for name, run, text in (
        ("compare", _compare, "method B against method A, paired; exit code 1 if B is significantly worse anywhere"),
        ("rank", _rank, "mean ranks of three or more methods, and which cannot be told apart"),
    ):
        sub = command(name, run, text)
        if name == "compare":
            sub.add_argument("a", metavar="A")
            sub.add_argument("b", metavar="B")
        else:
            sub.add_argument("methods", nargs="+", metavar="METHOD")
        sub.add_argument("--metric", action="append", help=f"may be repeated (default: {', '.join(COMPARED)})")
        sub.add_argument("--results", type=Path, default=Path("results"), metavar="DIR", help="default: results")
    sub = command("weights", _weights, "find, download and verify the weights of encoders; prints their licences")
    sub.add_argument("encoders", nargs="+", metavar="ENCODER", help="ids, or all")
    sub = command("predict", _predict, "score pictures with the model of a cell and write a heatmap of each")
    sub.add_argument("--run", type=Path, required=True, metavar="CELL", help="folder of a cell, results/cells/…")
    sub.add_argument("--category", help="needed by models with one detector a category")
    sub.add_argument("--out", type=Path, metavar="DIR", help="folder of the heatmaps (default: predictions)")
    precisions = get_args(config.Precision)
    sub.add_argument("--precision", choices=precisions, help="default: that of the cell's run, as its threshold needs")
    sub.add_argument("images", type=Path, nargs="+", metavar="IMAGE")
    sub.add_argument("--device", default="auto", help="auto, cpu, mps, cuda or cuda:N (default: auto)")
    threads(sub)

    sub = command("import-checkpoint", _import_checkpoint, "read a checkpoint of FoundAD's authors as a model of ours")
    sub.add_argument("checkpoint", type=Path)
    sub.add_argument("--encoder", required=True, help="the encoder it was trained on, such as dinov3-vitb16")
    sub.add_argument("--method", default="foundad-released", help="whose projector it is (default: foundad-released)")
    sub.add_argument("--top-k", type=int, default=10, help="patches averaged into the image score (default: 10)")
    sub.add_argument("--out", type=Path, required=True, metavar="FILE", help="such as model.safetensors")
    sub = command("export-checkpoint", _export_checkpoint, "write a FoundAD model in its authors' format")
    sub.add_argument("model", type=Path, help="a model.safetensors, or the folder of a cell")
    sub.add_argument("--out", type=Path, required=True, metavar="FILE", help="such as checkpoint.pth.tar")

    data = commands.add_parser("data", help="get and look at datasets").add_subparsers(required=True, metavar="COMMAND")
    sub = data.add_parser("check", help="verify every file of datasets and print what is in them")
    sub.set_defaults(command=_data_check)
    sub.add_argument("datasets", nargs="+", metavar="DATASET")
    sub.add_argument("--config", type=Path, default=catalogue.FOLDER, metavar="DIR", help="default: config")
    sub.add_argument("--size", choices=catalogue.SIZES, default=catalogue.DEMO, help="of the run (default: demo)")
    sub.add_argument("--deep", action="store_true", help="read every file again, whether or not it changed")
    sub.add_argument("--results", type=Path, default=Path("results"), metavar="DIR", help="default: results")
    threads(sub)
    sub = data.add_parser("get", help="download a dataset, or unpack its archive, to where its config looks for it")
    sub.set_defaults(command=_data_get)
    sub.add_argument("dataset", metavar="DATASET")
    sub.add_argument("--config", type=Path, default=catalogue.FOLDER, metavar="DIR", help="default: config")
    sub.add_argument("--size", choices=catalogue.SIZES, default=catalogue.DEMO, help="of the run (default: demo)")
    sub.add_argument("--accept-licence", action="store_true", help="you have read the licence and accept it")
    sub.add_argument(
        "--archive", type=Path, action="append", default=[], metavar="FILE", help="unpack it; may be repeated"
    )
    sub.add_argument("--to", type=Path, metavar="DIR", help="folder of datasets (default: the parent of root)")

    stage("textures", _textures, "make the embedded dataset 'textures'")
    sub = stage("manifest", _manifest, "list and verify every image of a dataset", "dataset")
    sub.add_argument("--part", choices=[WHOLE, *PARTS], help="rows that are written (default: the whole and all parts)")
    threads(sub)
    draws(stage("draw", _draw, "draw the few normal images of every category", "dataset"))
    sub = stage("features", _features, "encode every test image once", "dataset", "encoder")
    compute(sub)
    threads(sub)
    sub = stage("bank", _bank, "encode the drawn images and pairs made of them", "dataset", "encoder")
    sub.add_argument("bank", help="a method, or the id of a bank (methods with equal 'bank' sections share one)")
    draws(sub)
    compute(sub)
    threads(sub)
    sub = stage("fit", _fit, "fit one cell and score the test images", "dataset", "encoder", "method")
    draws(sub)
    compute(sub, batches=False)
    threads(sub)
    sub = stage("evaluate", _evaluate, "compute every metric of one cell", "dataset", "encoder", "method")
    draws(sub)
    sub.add_argument("--device", default="cpu", help="cpu (numpy, the workflow's choice), auto, cuda or cuda:N")
    sub = stage("observe", _observe, "paste growing squares on normal images and see", "dataset", "encoder", "method")
    draws(sub)
    compute(sub, batches=False, compiles=False)
    threads(sub)
    sub = stage("efficiency", _efficiency, "measure what scoring a picture costs here", "dataset", "encoder", "method")
    draws(sub)
    compute(sub, batches=False, compiles=False)
    threads(sub)
    sub = stage("collect", _collect, "gather the metrics and records of all cells of experiments")
    sub.add_argument("experiments", nargs="+", metavar="EXPERIMENT")
    sub.add_argument("--precision", default="float32", choices=get_args(config.Precision), help="of the run")
    sub.add_argument("--compile", action="store_true", help="of the run")
    sub.add_argument("--versions", action="append", metavar="PACKAGE=VERSION", help="of the run; may be repeated")
    stage("table", _table, "write one table of an experiment", "experiment", "name")
    stage("figure", _figure, "draw one figure of an experiment", "experiment", "name")
    stage("overview", _overview, "draw what a dataset looks like", "dataset")
    sub = stage("report", _report, "write the page of the study, report/index.html")
    sub.add_argument("experiments", nargs="*", metavar="EXPERIMENT", help="default: those of config.yaml")
    stage("status", _status, "list the failed cells; exit code 1 if there is any")
    return parser


if __name__ == "__main__":
    sys.exit(main())
