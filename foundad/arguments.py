"""The command line's arguments: one command per stage, built from the stage's class, and the other commands."""

import argparse
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, get_args

from foundad import __version__
from foundad.device import Precision
from foundad.plan import catalogue
from foundad.plan.catalogue import KINDS
from foundad.stages.base import Stage
from foundad.stages.registry import STAGES

Parser = argparse.ArgumentParser
OPTIONS: dict[str, dict[str, Any]] = {
    "device": {"default": "auto", "help": "auto, cpu, mps, cuda or cuda:N (default: auto)"},
    "precision": {"default": "float32", "choices": get_args(Precision), "help": "default: float32"},
    "compile": {"action": "store_true", "help": "use torch.compile; compiling takes up to half a minute per job"},
    "batch-size": {"type": int, "default": 32, "help": "images per encoder call (default: 32)"},
    # Only the workflow passes these two.
    "again": {"default": "", "help": argparse.SUPPRESS},
    "beside": {"action": "append", "default": [], "help": argparse.SUPPRESS, "metavar": "ARRAY=KEY"},
    "threads": {"type": int, "help": "CPU threads (default: 1 to encode, otherwise the libraries' choice)"},
}
HELP = {
    "bank": "a method, whose section bank is used, or that section as JSON",
    "shots": "normal images per category",
    "side": "pixels per side of the maps; the encoder's image_size",
    "part": "part of the dataset: train, test or truth (default: the whole)",
    "view": "query view of the images (default: unchanged)",
    "array": "what the encoder gives: patch or class tokens (default: patch)",
}


def parser(commands: Mapping[str, Any]) -> Parser:
    """The parser of all commands. ``commands`` maps names to functions; its entry ``stage`` runs every stage."""
    found = Parser(prog="foundad", description="The stages of the workflow, and the commands to use them.")
    found.add_argument("--version", action="version", version=f"foundad {__version__}")
    subs = found.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_looking(subs, commands)
    _add_folders(subs, commands)
    _add_run(subs, commands)
    _add_using(subs, commands)
    _add_data(subs, commands)
    for stage in STAGES.values():
        _add_stage(subs, stage, commands["stage"])
    return found


def _command(subs: Any, name: str, run: Any, text: str) -> Parser:
    sub: Parser = subs.add_parser(name, help=text, description=text)
    sub.set_defaults(command=run)
    sub.add_argument("--config", type=Path, default=catalogue.FOLDER, metavar="DIR", help="default: config")
    sub.add_argument("--size", choices=catalogue.SIZES, default=catalogue.DEMO, help="size of the run (default: demo)")
    return sub


def _results(sub: Parser) -> None:
    sub.add_argument("--results", type=Path, default=Path("results"), metavar="DIR", help="default: results")


def _option(sub: Parser, name: str, **changed: Any) -> None:
    sub.add_argument(f"--{name}", **(OPTIONS[name] | changed))


def _add_stage(subs: Any, stage: type[Stage], run: Any) -> None:
    """Text fields without a default become arguments, in the stage's order; all other fields become options."""
    sub = _command(subs, stage.name, run, stage.text)
    sub.set_defaults(stage=stage)
    if stage.gathers:
        sub.add_argument("experiments", nargs="*", metavar="EXPERIMENT", help="default: the experiments of config.yaml")
        sub.add_argument("--versions", action="append", metavar="PACKAGE=VERSION", help="of the run; may be repeated")
    for field in fields(stage):
        text, default = HELP.get(field.name), None if field.default is MISSING else field.default
        if field.type in (int, "int"):
            sub.add_argument(f"--{field.name}", type=int, required=field.default is MISSING, default=default, help=text)
        elif field.default is not MISSING:
            sub.add_argument(f"--{field.name}", help=text)
        else:
            sub.add_argument(field.name, help=text)
    for name in ("precision", "compile") if stage.gathers else stage.options:
        changed = {"default": stage.defaults[name]} if name in stage.defaults else {}
        _option(sub, name, **changed)
    _results(sub)
    sub.add_argument("--record-failure", action="store_true", help="if it fails, write the reason into the outputs")
    sub.add_argument("--key", metavar="KEY", help="key of the job and its inputs; the workflow passes it")


def _add_looking(subs: Any, commands: Mapping[str, Any]) -> None:
    sub = _command(subs, "validate", commands["validate"], "check every YAML file and report all mistakes at once")
    sub.add_argument("run", type=Path, nargs="*", help="run configs to check as well (default: config/config.yaml)")
    _configfile(sub)
    sub = _command(subs, "ls", commands["ls"], "list datasets, encoders, methods and experiments")
    sub.add_argument("kind", nargs="?", choices=list(KINDS))
    text = "show what a run consists of: cells, encoder passes, estimated GPU hours and disk"
    sub = _command(subs, "plan", commands["plan"], text)
    _configfile(sub)
    text = "cluster jobs, GPUs or cores at a time (default: 8)"
    sub.add_argument("--jobs", type=int, default=8, metavar="N", help=text)
    text = "gigabytes that running jobs may hold together in files that are deleted after use (default: 50)"
    sub.add_argument("--disk", type=float, default=50.0, metavar="GB", help=text)
    text = "run all experiments on small made-up data and tiny networks; exit code 1 if a table or figure is missing"
    sub = _command(subs, "rehearse", commands["rehearse"], text)
    _configfile(sub)
    out = Path("results/rehearsal")
    sub.add_argument("--out", type=Path, default=out, metavar="DIR", help=f"the small project (default: {out})")
    sub.add_argument("--cores", type=int, help="default: all of this machine")
    sub.add_argument("--seeds", type=int, default=2, help="of every cell, at most (default: 2)")
    text = (
        "compare method B with method A in paired tests, exit code 1 if B is significantly worse anywhere; or results "
        "folder B with A, exit code 1 if B lacks a cell of A or a value differs"
    )
    sub = _command(subs, "compare", commands["compare"], text)
    sub.add_argument("a", metavar="A", help="a method, or a results folder or its metrics.parquet")
    sub.add_argument("b", metavar="B", help="the same")
    far = "of folders: how far values may differ, as stored: 0.001 is 0.1 %% of a share (default: 0)"
    sub.add_argument("--tolerance", type=_tolerance, metavar="NUMBER", help=far)
    sub.add_argument("--json", action="store_true", help="of folders: everything as JSON")
    _metrics(sub)
    text = "rank three or more methods by mean rank, and show which do not differ significantly"
    sub = _command(subs, "rank", commands["rank"], text)
    sub.add_argument("methods", nargs="+", metavar="METHOD")
    _metrics(sub)


def _add_folders(subs: Any, commands: Mapping[str, Any]) -> None:
    text = "bring the cells of several results folders, of several machines or times, into one"
    sub = _command(subs, "merge", commands["merge"], text)
    sub.add_argument(
        "sources", type=Path, nargs="+", metavar="FOLDER", help="results folders; nothing is written there"
    )
    into = "results folder that gets what it lacks; made if absent"
    sub.add_argument("--into", type=Path, required=True, metavar="FOLDER", help=into)
    keep = "where folders contradict each other, keep what was written last (default: an error)"
    sub.add_argument("--keep", choices=["newest"], help=keep)


def _configfile(sub: Parser) -> None:
    text = "laid over config/config.yaml, one after the other, as snakemake does"
    sub.add_argument("--configfile", type=Path, nargs="+", default=[], metavar="FILE", help=text)


def _tolerance(text: str) -> float:
    value = float(text)
    if not value >= 0:  # NaN as well
        raise ValueError
    return value


def _metrics(sub: Parser) -> None:
    text = "may be repeated (default: the main metrics, see docs/metrics.md; of two folders all)"
    sub.add_argument("--metric", action="append", help=text)
    _results(sub)


def _add_run(subs: Any, commands: Mapping[str, Any]) -> None:
    text = (
        "run FoundAD, AnomalyDINO and nearest neighbours on a folder of your own pictures; ends with the method to take"
    )
    sub = _command(subs, "run", commands["run"], text)
    sub.add_argument("pictures", type=Path, metavar="DIR", help="folder of pictures, see docs/own_pictures.md")
    sub.add_argument("--shots", type=int, default=4, help="normal pictures per category to learn from (default: 4)")
    sub.add_argument("--seeds", type=int, default=3, help="random draws of them (default: 3)")
    sub.add_argument("--encoder", default="efficientnet-lite0", help="default: efficientnet-lite0, which is embedded")
    sub.add_argument("--out", type=Path, metavar="DIR", help="folder of the project (default: results/own/NAME)")
    sub.add_argument("--cores", type=int, help="default: all of this machine")
    sub.add_argument(
        "--dry-run", action="store_true", help="say what was taken for what, write the project, run nothing"
    )
    _option(sub, "device")


def _add_using(subs: Any, commands: Mapping[str, Any]) -> None:
    text = "find, download and verify the weights of encoders; prints their licences"
    sub = _command(subs, "weights", commands["weights"], text)
    sub.add_argument("encoders", nargs="+", metavar="ENCODER", help="ids, or all")
    text = "score pictures with the model of a cell and write a heatmap for each"
    sub = _command(subs, "predict", commands["predict"], text)
    sub.add_argument("--run", type=Path, required=True, metavar="CELL", help="folder of a cell, results/cells/…")
    sub.add_argument("--category", help="of the pictures; needed by models with one detector per category")
    sub.add_argument("--out", type=Path, metavar="DIR", help="folder of new heatmaps (default: predictions)")
    text = "write one page of all pictures instead: maps, scores, a threshold to move (with --out: heatmaps as well)"
    sub.add_argument("--page", type=Path, metavar="FILE", help=text)
    _option(sub, "precision", default=None, help="default: the precision of the cell's run, which its threshold needs")
    sub.add_argument("images", type=Path, nargs="+", metavar="IMAGE")
    _option(sub, "device")
    _option(sub, "threads", help="CPU threads (default: 1)")
    text = "write the model of a cell as one ONNX file, from pixels to score, anomaly map and verdict"
    sub = _command(subs, "export", commands["export"], text)
    sub.add_argument("run", type=Path, metavar="CELL", help="folder of a cell, results/cells/…, or a model.safetensors")
    sub.add_argument("--onnx", type=Path, required=True, metavar="FILE", help="such as model.onnx")
    sub.add_argument("--category", help="needed by models with one detector per category")
    text = "convert a checkpoint of FoundAD's authors into a model of this project"
    sub = _command(subs, "import-checkpoint", commands["import-checkpoint"], text)
    sub.add_argument("checkpoint", type=Path)
    sub.add_argument("--encoder", required=True, help="the encoder it was trained on, such as dinov3-vitb16")
    sub.add_argument("--method", default="foundad-released", help="method of its projector (default: foundad-released)")
    sub.add_argument("--top-k", type=int, default=10, help="patches averaged into the image score (default: 10)")
    sub.add_argument("--out", type=Path, required=True, metavar="FILE", help="such as model.safetensors")
    text = "write a FoundAD model in the authors' format"
    sub = _command(subs, "export-checkpoint", commands["export-checkpoint"], text)
    sub.add_argument("model", type=Path, help="a model.safetensors, or the folder of a cell")
    sub.add_argument("--out", type=Path, required=True, metavar="FILE", help="such as checkpoint.pth.tar")


def _add_data(subs: Any, commands: Mapping[str, Any]) -> None:
    data = subs.add_parser("data", help="download and check datasets").add_subparsers(required=True, metavar="COMMAND")
    sub = _command(data, "check", commands["data check"], "verify every file of the datasets and print what is in them")
    sub.add_argument("datasets", nargs="+", metavar="DATASET")
    sub.add_argument("--deep", action="store_true", help="read every file again, whether or not it changed")
    _results(sub)
    _option(sub, "threads")
    text = "download a dataset, or unpack its archive, to where its config looks for it"
    sub = _command(data, "get", commands["data get"], text)
    sub.add_argument("dataset", metavar="DATASET")
    sub.add_argument("--accept-licence", action="store_true", help="confirm that you read and accept the licence")
    files: dict[str, Any] = {
        "type": Path,
        "action": "append",
        "default": [],
        "metavar": "FILE",
        "help": "unpack this file instead of downloading; may be repeated",
    }
    sub.add_argument("--archive", **files)
    sub.add_argument("--to", type=Path, metavar="DIR", help="folder to put it into (default: the parent of root)")
