"""Finds, inherits, validates and cross-checks every YAML file of the config folder, before anything runs.

One YAML a thing, its id is the file name. All errors of all files are collected and raised as one UserError, a line
each: file, key, what is wrong, and the nearest right name. What the keys mean is :mod:`foundad.config`'s business.
"""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml
from pydantic import BaseModel, ValidationError

from foundad import config, registry
from foundad.errors import UserError
from foundad.paths import Cell

FOLDER = Path("config")
Model = TypeVar("Model", bound=config.Strict)


@dataclass
class Catalogue:
    """Every dataset, encoder, method and experiment of a config folder, by id."""

    datasets: dict[str, config.Dataset] = field(default_factory=dict)
    encoders: dict[str, config.Encoder] = field(default_factory=dict)
    methods: dict[str, config.Method] = field(default_factory=dict)
    experiments: dict[str, config.Experiment] = field(default_factory=dict)

    def cells(self, experiment: config.Experiment) -> list[Cell]:
        """The distinct cells an experiment selects, in the order it names them."""
        cells = (
            Cell(*values)
            for grid in experiment.cells
            for values in product(grid.datasets, grid.encoders, grid.methods, grid.shots, grid.seeds)
        )
        return list(dict.fromkeys(cells))


def load_catalogue(folder: Path = FOLDER) -> Catalogue:
    """Read and check every YAML file below ``folder``.

    Raises:
        UserError: one line for each error of each file.
    """
    errors: list[str] = []
    catalogue = Catalogue()
    for kind in config.KINDS:
        found = getattr(catalogue, kind)
        for path in sorted((folder / kind).glob("*.yaml")):
            try:
                found[path.stem] = load_one(folder, kind, path.stem)
            except UserError as error:
                errors += str(error).splitlines()
    broken = {(kind, p.stem) for kind in config.KINDS for p in (folder / kind).glob("*.yaml")}
    for experiment in catalogue.experiments.values():
        errors += _check_experiment(folder / "experiments" / f"{experiment.id}.yaml", experiment, catalogue, broken)
    if errors:
        raise UserError("\n".join(dict.fromkeys(errors)))
    return catalogue


def load_one(folder: Path, kind: str, name: str) -> Any:
    """The validated model of ``folder/kind/name.yaml``, inheritance (key ``base``) resolved.

    Raises:
        UserError: one line for each error, or that there is no such file and which is nearest.
    """
    path = folder / kind / f"{name}.yaml"
    values = _inherited(folder, kind, name, seen=())
    model: type[config.Strict] = config.KINDS[kind]
    if kind == "methods":
        detector = values.get("detector")
        if not isinstance(detector, str) or detector not in registry.detectors():
            hint = nearest(str(detector), registry.detectors())
            raise UserError(f"{path}: key 'detector': there is no detector '{detector}'{hint}")
        model = registry.settings_of(detector)
    if kind == "encoders" and isinstance(values.get("parts"), list):
        values |= {"parts": [_part(folder, str(path), name, part) for part in values["parts"]]}
    return validate(model, values | {"id": name}, str(path))


def _part(folder: Path, source: str, encoder: str, part: Any) -> Any:
    """The values of an encoder that a concatenation names, so that it is complete by itself."""
    others = [other.stem for other in (folder / "encoders").glob("*.yaml")]
    if not isinstance(part, str) or part not in others or part == encoder:
        raise UserError(f"{source}: key 'parts': there is no other encoder '{part}'{nearest(str(part), others)}")
    return config.dump(load_one(folder, "encoders", part))


def load_run(values: Mapping[str, Any], source: str) -> config.Run:
    """The validated run config (what Snakemake's --configfile merged), its errors naming ``source``."""
    return validate(config.Run, dict(values), source)


def validate(model: type[Model], values: dict[str, Any], source: str) -> Model:
    """``values`` as a ``model``; every error becomes one line that starts with ``source``."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        lines = [_line(source, model, dict(details)) for details in error.errors(include_url=False)]
        raise UserError("\n".join(lines)) from None


def check_run(run: config.Run, catalogue: Catalogue, source: str) -> None:
    """Every experiment of the run exists; UserError with one line for each that does not."""
    missing = [name for name in run.experiments if name not in catalogue.experiments]
    if missing:
        hints = [f"'{name}'{nearest(name, catalogue.experiments)}" for name in missing]
        raise UserError("\n".join(f"{source}: key 'experiments': there is no experiment {hint}" for hint in hints))


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for a wrong name: the most similar known one, else all of them."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; known: {', '.join(known)}" if known else ""


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; UserError with file, line and problem where there is none."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        others = [other.stem for other in path.parent.glob("*.yaml")]
        raise UserError(f"{path}: there is no such file{nearest(path.stem, others)}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "not readable"
        raise UserError(f"{path}:{where} is not valid YAML: {problem}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: must hold 'key: value' lines")
    return values


def _inherited(folder: Path, kind: str, name: str, seen: tuple[str, ...]) -> dict[str, Any]:
    path = folder / kind / f"{name}.yaml"
    if name in seen:
        raise UserError(f"{path}: key 'base': {' -> '.join((*seen, name))} goes in a circle")
    values = read_yaml(path)
    base = values.pop("base", None)
    if base is None:
        return values
    if not (folder / kind / f"{base}.yaml").is_file():
        others = [other.stem for other in path.parent.glob("*.yaml")]
        raise UserError(f"{path}: key 'base': there is no '{base}'{nearest(str(base), others)}")
    return _merged(_inherited(folder, kind, base, (*seen, name)), values)


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """``above`` laid over ``below``, mappings key by key."""
    result = dict(below)
    for key, value in above.items():
        old = result.get(key)
        result[key] = _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result


def _line(source: str, model: type[BaseModel], details: dict[str, Any]) -> str:
    location = [part for part in details["loc"] if not (isinstance(part, str) and part in _TAGS)]
    key = ".".join(str(part) for part in location)
    if details["type"] == "extra_forbidden":
        return f"{source}: unknown key '{key}'{nearest(str(location[-1]), _siblings(model, details['loc']))}"
    if details["type"] == "missing":
        return f"{source}: key '{key}' is missing"
    message = details["msg"].removeprefix("Value error, ")
    if details["type"] == "value_error":
        return f"{source}: {message}" if message.startswith("key ") else f"{source}: key '{key}': {message}"
    shown = details["input"]
    if details["type"] == "literal_error" and isinstance(shown, str):
        options = [part.strip(" '") for part in details["ctx"]["expected"].replace(" or ", ", ").split(", ")]
        return f"{source}: key '{key}': '{shown}' is none of {details['ctx']['expected']}{_guess(shown, options)}"
    return f"{source}: key '{key}': {message[0].lower()}{message[1:]}, not {shown!r}"


def _guess(name: str, options: list[str]) -> str:
    close = difflib.get_close_matches(name, options, n=1)
    return f"; did you mean '{close[0]}'?" if close else ""


_TAGS = {
    "blocks",
    "stages",
    "shots",
    "gallery",
    "list[str]",
    "dict[str,str]",
    "PackageWeights",
    "HubWeights",
    "LocalWeights",
    "literal['random']",
}


def _siblings(model: type[BaseModel], location: tuple[Any, ...]) -> list[str]:
    """Keys that are right where the unknown key at ``location`` stands."""
    models: list[type[BaseModel]] = [model]
    for part in location[:-1]:
        following: list[type[BaseModel]] = []
        for current in models:
            annotation = current.model_fields[part].annotation if part in current.model_fields else None
            following += _models_in(annotation)
        models = following or models
    return [key for current in models for key in current.model_fields if key != "id"]


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    arguments = getattr(annotation, "__args__", ())
    return [found for argument in arguments for found in _models_in(argument)]


def _check_experiment(
    path: Path, experiment: config.Experiment, catalogue: Catalogue, files: set[tuple[str, str]]
) -> list[str]:
    """Ids that do not exist, tables that show nothing, galleries of cells that are not selected."""
    errors = []
    for number, grid in enumerate(experiment.cells):
        for kind in ("datasets", "encoders", "methods"):
            known = {name for k, name in files if k == kind}
            for name in getattr(grid, kind):
                if name not in known:
                    kind_name = kind.removesuffix("s")
                    errors.append(
                        f"{path}: key 'cells.{number}.{kind}': there is no {kind_name} '{name}'{nearest(name, known)}"
                    )
    if errors:
        return errors
    cells = catalogue.cells(experiment)
    values = {axis: {getattr(c, axis) for c in cells} for axis in ("dataset", "encoder", "method", "shots")}
    for group, specs in (("tables", experiment.tables), ("figures", experiment.figures)):
        for name, spec in cast(Mapping[str, Any], specs).items():
            metrics = getattr(spec, "metrics", [])
            errors += [
                f"{path}: key '{group}.{name}.metrics': there is no metric '{metric}'{nearest(metric, _metric_ids())}"
                for metric in metrics
                if metric not in _metric_ids()
            ]
            where = getattr(spec, "where", {})
            for axis, allowed in where.items():
                for value in allowed:
                    if axis in values and value not in values[axis]:
                        hint = nearest(str(value), map(str, values[axis]))
                        errors.append(
                            f"{path}: key '{group}.{name}.where.{axis}': no cell has the {axis} '{value}'{hint}"
                        )
            errors += [f"{path}: key '{group}.{name}': {problem}" for problem in _ambiguous(spec, cells)]
            if isinstance(spec, config.GalleryFigure):
                cell = Cell(spec.dataset, spec.encoder, spec.method, spec.shots, spec.seed)
                if cell not in cells:
                    errors.append(f"{path}: key '{group}.{name}': the experiment has no cell {cell}")
    return errors


def _ambiguous(spec: config.Strict, cells: list[Cell]) -> Iterable[str]:
    """Axes that a table or curve would average over without saying so."""
    if isinstance(spec, config.Table):
        shown = {*spec.rows, *spec.columns}
    elif isinstance(spec, config.ShotsFigure):
        shown = {"dataset", "method", "shots"}
    else:
        return
    where = spec.where
    chosen = [c for c in cells if all(getattr(c, a) in allowed for a, allowed in where.items() if a != "category")]
    for axis in ("dataset", "encoder", "method", "shots"):
        values = list(dict.fromkeys(str(getattr(cell, axis)) for cell in chosen))
        if axis not in shown and len(values) > 1:
            yield f"{axis} takes {len(values)} values ({', '.join(values)}); show it or choose one with where.{axis}"


def _metric_ids() -> set[str]:
    """Metrics that tables and figures print: shares, in percent."""
    from foundad.metrics.registry import METRICS

    return {name for name, metric in METRICS.items() if metric.unit == "share"}
