"""The folder of a rehearsal: a whole small project, with config, workflow, data and results of its own."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from foundad.config.base import dump
from foundad.config.dataset import Dataset
from foundad.config.experiment import Experiment
from foundad.config.method import Method
from foundad.data.layouts import layout_of
from foundad.errors import UserError
from foundad.files import sha256, write_text
from foundad.plan.catalogue import Catalogue, check_run, load_catalogue, load_run, variant
from foundad.rehearsal import encoders
from foundad.rehearsal.datasets import Amount, archive_name, folders_of, pack, write_dataset

MARK = "rehearsal.json"  # in the folder, so that it may be made anew
CONFIG = "config/rehearsal.yaml"  # the run, beside the things that it names
COPIED = ("Snakefile", "workflow", "profiles", "results/reference")
MOST_STEPS, MOST_PAIRS, EPOCHS = 32, 32, 2
Names = Mapping[str, str]


@dataclass(frozen=True)
class Rehearsal:
    """A rehearsal that is ready to run.

    folder: of the small project. values: its run. of: what is rehearsed, as messages name it.
    """

    folder: Path
    values: Mapping[str, Any]
    of: str


def make(values: Mapping[str, Any], source: Path, of: str, out: Path, seeds: int = 2) -> Rehearsal:
    """Make the small project of the run that ``values`` describe.

    Args:
        values: the run config, merged.
        source: the config folder of the run; Snakefile and workflow lie beside it.
        of: the files of the run config, as messages name them.
        out: the folder; an earlier rehearsal there is deleted.
        seeds: of every cell, at most.

    Raises:
        UserError: the run's config is wrong, ``out`` holds something else, or a dataset or encoder cannot be made small.
    """
    run = load_run(values, of)
    catalogue = load_catalogue(source, run.size)
    check_run(run, catalogue, of)
    _clear(out)
    write_text(out / MARK, json.dumps({"of": of}) + "\n")
    for name in COPIED:
        _copy(source.resolve().parent / name, out / name)
    chosen = [catalogue.experiments[name] for name in dict.fromkeys(run.experiments)]
    cut = [experiment_values(experiment, seeds) for experiment in chosen]
    used = _used(cut)
    new = _write_methods(out, catalogue, used["methods"]) | _write_encoders(out, catalogue, used["encoders"])
    for values_of, experiment in zip(cut, chosen, strict=True):
        _write_yaml(out / f"config/experiments/{experiment.id}.yaml", renamed(values_of, new))
    draws = max(shots for values_of in cut for grid in values_of["cells"] for shots in grid["shots"])
    counts = ", ".join(f"{len(names)} {kind}" for kind, names in used.items())
    print(f"{out}: made small: {counts}", flush=True)
    for name in used["datasets"]:
        _bring_dataset(catalogue.datasets[name], out, Amount(draws=draws + 1))
    # One core a batch: as many batches side by side as there are cores, none waits for another's last job.
    small = dump(run) | {"device": "cpu", "threads": {"features": 1, "manifest": 1, "batch": 1}}
    small |= {"precision": "float32", "compile": False, "results": f"results/{run.size}"}
    _write_yaml(out / "config/config.yaml", small)
    _write_yaml(out / CONFIG, small)
    return Rehearsal(out, small, of)


def _clear(out: Path) -> None:
    if out.exists() and any(out.iterdir()):
        if not (out / MARK).is_file():
            raise UserError(f"{out}: holds something else than a rehearsal; give --out another folder")
        try:
            shutil.rmtree(out)
        except OSError as error:
            reason = error.strerror or error
            raise UserError(f"{out}: cannot be deleted: {reason}; does an earlier rehearsal still run there?") from None
    out.mkdir(parents=True, exist_ok=True)


def _copy(source: Path, target: Path) -> None:
    if not source.exists():
        raise UserError(f"{source}: there is no such file or folder; call foundad in the project's folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copy(source, target)


def _write_yaml(path: Path, values: Mapping[str, Any]) -> None:
    write_text(path, yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True))


# ---------------------------------------------------------------------------------------------------- experiments


def experiment_values(experiment: Experiment, seeds: int) -> dict[str, Any]:
    """The YAML of an experiment with all that it shows, and with as few shots and seeds as its tables and figures need."""
    values = dump(experiment)
    values["title"] += encoders.MARKED
    shown = [*values["tables"].values(), *values["figures"].values()]
    for grid in values["cells"]:
        grid["shots"] = _needed_shots(grid["shots"], shown)
        grid["seeds"] = grid["seeds"][:seeds]
    for spec in shown:
        if "shots" in spec.get("where", {}):
            there = {shots for grid in values["cells"] for shots in grid["shots"]}
            spec["where"]["shots"] = [shots for shots in spec["where"]["shots"] if shots in there]
    del values["id"], values["skip_if_absent"]
    return values


def _needed_shots(there: list[int], shown: Iterable[Mapping[str, Any]]) -> list[int]:
    """Those of a grid that a table or figure names; the first and last for a curve over them; else the first."""
    needed: set[int] = set()
    for spec in shown:
        named = spec.get("where", {}).get("shots", [])
        needed |= {spec["shots"]} if "shots" in spec else set(named[:1])
        if spec["kind"] == "curve" and spec.get("x") == "shots":
            needed |= {min(there), max(there)}
    return [shots for shots in there if shots in needed] or there[:1]


def _used(experiments: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Ids of datasets, encoders and methods, variants included, in the order in which cells name them."""
    grids = [grid for values in experiments for grid in values["cells"]]
    kinds = ("datasets", "encoders", "methods")
    return {kind: list(dict.fromkeys(name for grid in grids for name in grid[kind])) for kind in kinds}


def renamed(value: Any, new: Names) -> Any:
    """``value`` with every text that is an old name of a variant replaced by the new one, and none twice in a list."""
    if isinstance(value, dict):
        return {key: renamed(inner, new) for key, inner in value.items()}
    if isinstance(value, list):
        found = [renamed(inner, new) for inner in value]
        return list(dict.fromkeys(found)) if all(isinstance(inner, str) for inner in found) else found
    return new.get(value, value) if isinstance(value, str) else value


def _variant_id(base: str, changes: Mapping[str, Any]) -> str:
    words = [f"{key}={str(value).lower() if isinstance(value, bool) else value}" for key, value in changes.items()]
    return f"{base}@{','.join(words)}"


# ---------------------------------------------------------------------------------------------------- methods


def _write_methods(out: Path, catalogue: Catalogue, names: Iterable[str]) -> dict[str, str]:
    """Write the methods with small budgets; old name -> new name of the variants whose values shrink."""
    names = list(names)
    methods = [catalogue.methods[name] for name in names]
    shrink = _Budgets.of(methods)
    new: dict[str, str] = {}
    for name in names:
        base, changes = variant(name)
        if changes:
            new[name] = _variant_id(base, {key: shrink.value(key, value) for key, value in changes.items()})
        path = out / f"config/methods/{base}.yaml"
        if not path.exists():
            _write_yaml(path, method_values(catalogue.methods[base], shrink.value))
    return new


@dataclass(frozen=True)
class _Budgets:
    """How budgets shrink: steps and pairs by one factor each, so that a sweep over them stays a sweep."""

    steps: int
    pairs: int

    @classmethod
    def of(cls, methods: Iterable[Method]) -> "_Budgets":
        methods = list(methods)
        steps = [getattr(getattr(method, "training", None), "steps", None) or 1 for method in methods]
        return cls(max(steps), max(method.bank.pairs for method in methods))

    def value(self, key: str, value: Any) -> Any:
        """The small value of a key of a method; None stays None."""
        most = {"training.steps": (self.steps, MOST_STEPS), "bank.pairs": (self.pairs, MOST_PAIRS)}
        if key == "training.epochs":
            return value and min(value, EPOCHS)
        if key in most and value:
            large, small = most[key]
            return max(1, round(value * small / large)) if large > small else value
        return value


def method_values(method: Method, small: Callable[[str, Any], Any]) -> dict[str, Any]:
    """The YAML of a method with a narrow projector and small budgets; ``small`` gives the value of a key."""
    whole, quick = dump(method), dump(method.quick())
    values = {key: value for key, value in (quick | {"bank": whole["bank"]}).items() if key != "id"}
    values["bank"]["pairs"] = small("bank.pairs", whole["bank"]["pairs"])
    if "training" in whole:
        values["training"] = whole["training"] | {
            key: small(f"training.{key}", whole["training"][key]) for key in ("steps", "epochs")
        }
    return values


# ---------------------------------------------------------------------------------------------------- encoders


def _write_encoders(out: Path, catalogue: Catalogue, names: Iterable[str]) -> dict[str, str]:
    """Write the tiny twins; old name -> new name of the variants whose image size or grid shrinks."""
    new: dict[str, str] = {}
    for name in names:
        base, changes = variant(name)
        if changes:
            own = encoders.twin(catalogue.encoders[name])
            sizes = {key: own.get(key) for key in ("image_size", "channels")}
            sizes["features.grid"] = own.get("features", {}).get("grid")
            new[name] = _variant_id(base, {key: sizes.get(key) or value for key, value in changes.items()})
        for encoder in (catalogue.encoders[base], *catalogue.encoders[base].parts):
            path = out / f"config/encoders/{encoder.id}.yaml"
            if not path.exists():
                _write_yaml(path, encoders.twin(encoder))
    return new


# ---------------------------------------------------------------------------------------------------- datasets


def _bring_dataset(dataset: Dataset, out: Path, amount: Amount) -> None:
    """Make a small dataset, pack it, and unpack it as people do; its YAML says how many images it has."""
    made, archive = out / "made" / dataset.id, out / "archives" / archive_name(dataset)
    categories = write_dataset(dataset, made, amount)
    archive.parent.mkdir(parents=True, exist_ok=True)
    pack(made, archive)
    shutil.rmtree(made.parent)
    folder = Path(dataset.root).name if dataset.root and "$" not in Path(dataset.root).name else dataset.id
    values = dump(dataset) | {"root": f"data/{folder}", "generator": None, "draws": None, "counts": {}}
    values["title"] += encoders.MARKED
    values["categories"] = dataset.folders and folders_of(dataset)
    page = dataset.download.page if dataset.download else "https://example.org/"
    values["download"] = {"page": page, "archive": archive.name, "sha256": sha256(archive)}
    del values["id"]
    path = out / f"config/datasets/{dataset.id}.yaml"
    _write_yaml(path, values)
    call = [sys.executable, "-m", "foundad", "data", "get", dataset.id, "--archive", f"archives/{archive.name}"]
    result = subprocess.run(call, cwd=out, capture_output=True, text=True, env=environment())
    if result.returncode:
        raise UserError(f"{path}: foundad data get: {(result.stderr or result.stdout).strip()}")
    settings = Dataset.model_validate(values | {"id": dataset.id, "root": str(out / values["root"])})
    counts: dict[str, list[int]] = {}
    for entry in layout_of(dataset.layout).read(out / values["root"], settings):
        number = 0 if entry.split == "train" else 1 + entry.label
        counts.setdefault(entry.category, [0, 0, 0])[number] += 1
    if set(categories) != set(counts) and dataset.folders:
        raise UserError(f"{path}: the small dataset lacks {', '.join(set(categories) - set(counts))}")
    _write_yaml(path, values | {"counts": counts})


def environment() -> dict[str, str]:
    """That of this process, with the sources that it runs found from another folder as well."""
    here = str(Path(__file__).resolve().parent.parent.parent)
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))}
