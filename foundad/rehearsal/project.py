"""Makes the folder of a rehearsal: a complete small project with its own config, workflow, data and results."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foundad.config.base import dump
from foundad.config.dataset import Dataset
from foundad.config.experiment import Experiment
from foundad.config.method import Method
from foundad.data.layouts import layout_of
from foundad.errors import UserError
from foundad.files import sha256, write_text
from foundad.plan.catalogue import Catalogue, check_run, load_catalogue, load_run, variant
from foundad.plan.copies import copy_workflow, environment, write_yaml
from foundad.rehearsal import encoders
from foundad.rehearsal.datasets import Amount, archive_name, folders_of, pack, write_dataset

MARK = "rehearsal.json"  # marks a folder as a rehearsal, which may be deleted and made again
CONFIG = "config/rehearsal.yaml"  # the run config of the rehearsal
MOST_STEPS, MOST_PAIRS, EPOCHS = 32, 32, 2
Names = Mapping[str, str]


@dataclass(frozen=True)
class Rehearsal:
    """A rehearsal that is ready to run.

    folder: the folder of the small project. values: its run config. of: the run that is rehearsed, as messages name it.
    """

    folder: Path
    values: Mapping[str, Any]
    of: str


def make(values: Mapping[str, Any], source: Path, of: str, out: Path, seeds: int = 2) -> Rehearsal:
    """Make the small project of a run.

    Args:
        values: the merged run config.
        source: the config folder of the run, with Snakefile and workflow/ beside it.
        of: the files of the run config, as messages name them.
        out: the folder of the small project. An earlier rehearsal there is deleted.
        seeds: largest number of seeds per cell.

    Raises:
        UserError: the run config is wrong, ``out`` holds something else, or a dataset or encoder cannot be made small.
    """
    run = load_run(values, of)
    catalogue = load_catalogue(source, run.size)
    check_run(run, catalogue, of)
    _clear(out)
    write_text(out / MARK, json.dumps({"of": of}) + "\n")
    copy_workflow(source, out)
    chosen = [catalogue.experiments[name] for name in dict.fromkeys(run.experiments)]
    cut = [experiment_values(experiment, seeds) for experiment in chosen]
    used = _used(cut)
    new = _write_methods(out, catalogue, used["methods"]) | _write_encoders(out, catalogue, used["encoders"])
    for values_of, experiment in zip(cut, chosen, strict=True):
        write_yaml(out / f"config/experiments/{experiment.id}.yaml", renamed(values_of, new))
    draws = max(shots for values_of in cut for grid in values_of["cells"] for shots in grid["shots"])
    counts = ", ".join(f"{len(names)} {kind}" for kind, names in used.items())
    print(f"{out}: made small: {counts}", flush=True)
    for name in used["datasets"]:
        _bring_dataset(catalogue.datasets[name], out, Amount(draws=draws + 1))
    # One core per batch: then as many batches run at the same time as there are cores, and no core idles.
    small = dump(run) | {"device": "cpu", "threads": {"features": 1, "manifest": 1, "batch": 1}}
    small |= {"precision": "float32", "compile": False, "results": f"results/{run.size}"}
    write_yaml(out / "config/config.yaml", small)
    write_yaml(out / CONFIG, small)
    return Rehearsal(out, small, of)


def _clear(out: Path) -> None:
    if out.exists() and any(out.iterdir()):
        if not (out / MARK).is_file():
            raise UserError(f"{out}: holds something other than a rehearsal; give --out another folder")
        try:
            shutil.rmtree(out)
        except OSError as error:
            reason = error.strerror or error
            raise UserError(f"{out}: cannot be deleted: {reason}; does an earlier rehearsal still run there?") from None
    out.mkdir(parents=True, exist_ok=True)


# ---------------------------------------------------------------------------------------------------- experiments


def experiment_values(experiment: Experiment, seeds: int) -> dict[str, Any]:
    """The YAML values of an experiment with all tables and figures, but few seeds and only the shots they need."""
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
    """The shots of a grid that tables and figures need.

    These are the shots that a table or figure names, and the first and last for a curve over shots. If nothing
    names any, it is the first.
    """
    needed: set[int] = set()
    for spec in shown:
        named = spec.get("where", {}).get("shots", [])
        needed |= {spec["shots"]} if "shots" in spec else set(named[:1])
        if spec["kind"] == "curve" and spec.get("x") == "shots":
            needed |= {min(there), max(there)}
    return [shots for shots in there if shots in needed] or there[:1]


def _used(experiments: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Ids of the datasets, encoders and methods, variants included, in the order in which the cells name them."""
    grids = [grid for values in experiments for grid in values["cells"]]
    kinds = ("datasets", "encoders", "methods")
    return {kind: list(dict.fromkeys(name for grid in grids for name in grid[kind])) for kind in kinds}


def renamed(value: Any, new: Names) -> Any:
    """``value`` with every old name of a variant replaced by its new name. Lists of names keep each name once."""
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
    """Write the YAML of methods with small budgets. Returns old name -> new name of all variants."""
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
            write_yaml(path, method_values(catalogue.methods[base], shrink.value))
    return new


@dataclass(frozen=True)
class _Budgets:
    """Shrinks the budgets of methods.

    All steps shrink by one factor, and all pairs by another, so that a sweep over them still has different values.
    """

    steps: int
    pairs: int

    @classmethod
    def of(cls, methods: Iterable[Method]) -> "_Budgets":
        methods = list(methods)
        steps = [getattr(getattr(method, "training", None), "steps", None) or 1 for method in methods]
        return cls(max(steps), max(method.bank.pairs for method in methods))

    def value(self, key: str, value: Any) -> Any:
        """The small value of the method key ``key``. None stays None."""
        most = {"training.steps": (self.steps, MOST_STEPS), "bank.pairs": (self.pairs, MOST_PAIRS)}
        if key == "training.epochs":
            return value and min(value, EPOCHS)
        if key in most and value:
            large, small = most[key]
            return max(1, round(value * small / large)) if large > small else value
        return value


def method_values(method: Method, small: Callable[[str, Any], Any]) -> dict[str, Any]:
    """The YAML values of a method with a narrow projector and small budgets.

    Args:
        method: the method.
        small: maps a key and its value to the small value.
    """
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
    """Write the YAML of the tiny twins. Returns old name -> new name of all variants, whose sizes may shrink."""
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
                write_yaml(path, encoders.twin(encoder))
    return new


# ---------------------------------------------------------------------------------------------------- datasets


def _bring_dataset(dataset: Dataset, out: Path, amount: Amount) -> None:
    """Make a small dataset, pack it, unpack it with ``foundad data get``, and write its YAML with its image counts."""
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
    write_yaml(path, values)
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
    write_yaml(path, values | {"counts": counts})
