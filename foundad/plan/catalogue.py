"""Reads every YAML file of the config folder, resolves inheritance, and checks everything before anything runs.

There is one YAML file per dataset, encoder, method and experiment; its id is the file name. All errors of all files are
collected and raised as one UserError. Each error is one line with the file, the key, what is wrong, and the nearest
correct name. A value that depends on the size of the run is written ``{demo: …, paper: …}``, with ``laptop: …`` if that
differs from ``paper``. Loading at one size takes that value;
``foundad validate`` loads all sizes. What the keys mean is defined in :mod:`foundad.config`.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from foundad.cells import AXES, Cell
from foundad.config.base import IN_WORDS, Strict, dump
from foundad.config.dataset import Dataset
from foundad.config.encoder import Encoder
from foundad.config.experiment import Experiment, OfKind
from foundad.config.method import Method
from foundad.config.run import Run, Size
from foundad.data.location import require_root
from foundad.detection import registry
from foundad.errors import UserError
from foundad.names import LONGEST_NAME, nearest
from foundad.report import kinds
from foundad.yamlfile import check_plain, read_mapping, shown

FOLDER = Path("config")
DEMO: Size = "demo"
KINDS: dict[str, type[Strict]] = {
    "datasets": Dataset,
    "encoders": Encoder,
    "methods": Method,
    "experiments": Experiment,
}
SIZES: tuple[Size, ...] = get_args(Size)
STATED = {"demo", "paper"}  # a value by size must state these; other sizes default to that of paper
Model = TypeVar("Model", bound=Strict)
VARIED = ("encoders", "methods")  # the kinds of which experiments may name variants
LONGEST_CHAIN = 16  # files that inherit from each other in a row
DEEPEST_PARTS = 3  # concatenations nested in each other


@dataclass
class Catalogue:
    """All datasets, encoders, methods and experiments of a config folder, by id."""

    datasets: dict[str, Dataset] = field(default_factory=dict)
    encoders: dict[str, Encoder] = field(default_factory=dict)
    methods: dict[str, Method] = field(default_factory=dict)
    experiments: dict[str, Experiment] = field(default_factory=dict)

    def cells(self, experiment: Experiment) -> list[Cell]:
        """The distinct cells that an experiment selects, in the order in which it names them."""
        cells = (
            Cell(*values)
            for grid in experiment.cells
            for values in product(*(getattr(grid, f"{axis.removesuffix('s')}s") for axis in AXES))
        )
        return list(dict.fromkeys(cells))


def load_catalogue(folder: Path = FOLDER, size: Size = DEMO) -> Catalogue:
    """Read and check every YAML file below ``folder``, with the values for a run of ``size``.

    Raises:
        UserError: one line for each error of each file.
    """
    require_folder(folder)
    catalogue = Catalogue()
    errors = _stray_files(folder)
    files = {kind: [path.stem for path in sorted((folder / kind).glob("[!_]*.yaml"))] for kind in KINDS}
    for kind, names in files.items():
        found = getattr(catalogue, kind)
        for name in names:
            try:
                found[name] = load_one(folder, kind, name, size)
            except UserError as error:
                errors += str(error).splitlines()
    variants, more = _add_variants(folder, catalogue, size)
    errors += more
    known = {(kind, name) for kind, names in files.items() for name in names} | variants
    for experiment in catalogue.experiments.values():
        found_errors = _check_experiment(folder / "experiments" / f"{experiment.id}.yaml", experiment, catalogue, known)
        errors += [" ".join(line.split()) for line in found_errors]  # a wrong value may hold line breaks
    if errors:
        raise UserError("\n".join(dict.fromkeys(errors)))
    return catalogue


def _add_variants(folder: Path, catalogue: Catalogue, size: Size) -> tuple[set[tuple[str, str]], list[str]]:
    """Load the variants that experiments name into ``catalogue``.

    Returns:
        The variants whose base exists, as pairs of kind and name, and one line for each error.
    """
    known: set[tuple[str, str]] = set()
    errors: dict[str, str] = {}
    grids = [grid for experiment in catalogue.experiments.values() for grid in experiment.cells]
    for kind in VARIED:
        found = getattr(catalogue, kind)
        for name in dict.fromkeys(name for grid in grids for name in getattr(grid, kind)):
            if "@" in name and variant(name)[0] in found:
                known.add((kind, name))
                try:
                    found[name] = load_one(folder, kind, name, size)
                except UserError as error:
                    for line in str(error).splitlines():  # keep one variant per mistake
                        errors.setdefault(line.replace(f" as '{name}'", "", 1), line)
    return known, list(errors.values())


def require_folder(folder: Path) -> None:
    """Check that the config folder exists.

    Raises:
        UserError: there is none, because the command was called outside a project.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder} here; call foundad in the project's folder, or give --config DIR")


def load_one(folder: Path, kind: str, name: str, size: Size = DEMO, around: tuple[str, ...] = ()) -> Any:
    """The validated model of ``folder/kind/name.yaml`` at ``size``, inheritance (key ``base``) resolved.

    Args:
        around: names of the concatenations that contain this encoder, the outermost first.

    Raises:
        UserError: one line for each error. If there is no such file, the message suggests the nearest name.
    """
    require_folder(folder)
    base, changes = variant(name) if kind in VARIED else (name, {})
    path = folder / kind / f"{base}.yaml"
    values = at_size(_inherited(folder, kind, base, seen=()), size)
    if not isinstance(values, dict):
        raise UserError(f"{path}: must hold 'key: value' lines, for the size {size} as well")
    if "id" in values:
        raise UserError(f"{path}: unknown key 'id': the name of the file is the id")
    source = f"{path} as '{name}'" if changes else str(path)
    values = _changed(values, changes)
    model: type[Strict] = KINDS[kind]
    if kind == "methods":
        detector = values.get("detector")
        if not isinstance(detector, str) or detector not in registry.detectors():
            hint = nearest(str(detector), registry.detectors())
            raise UserError(f"{path}: key 'detector': there is no detector {shown(detector)}{hint}")
        model = registry.settings_of(detector)
    if kind == "encoders" and isinstance(values.get("parts"), list):
        values |= {"parts": [_part(folder, str(path), (*around, name), part) for part in values["parts"]]}
    found = validate(model, values | {"id": name}, source)
    if isinstance(found, Dataset) and found.generator is None:
        require_root(found, str(path))
    return found


def variant(name: str) -> tuple[str, dict[str, bool | int | float | str]]:
    """The base of the variant ``name`` and the keys that it changes.

    The name ``foundad@training.steps=40`` gives ``foundad`` and ``{"training.steps": 40}``. A plain name changes
    nothing.
    """
    base, _, text = name.partition("@")
    pairs = (part.partition("=") for part in text.split(",") if part)
    return base, {key: _scalar(value) for key, _, value in pairs}


def _scalar(text: str) -> bool | int | float | str:
    """A value as YAML would read it."""
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _changed(values: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``values`` with dotted keys changed, and a title that names the changes."""
    for key, value in changes.items():
        change = value
        for part in reversed(key.split(".")):
            change = {part: change}
        values = _merged(values, change)
    if changes:
        values |= {"title": ", ".join([str(values.get("title")), *(_told(key, changes) for key in changes)])}
    return values


def _told(key: str, changes: Mapping[str, Any]) -> str:
    """A change in the words of a title, such as ``steps 40``.

    The words are the last part of the key, or the whole key if another change has the same last part.
    """
    last = key.rpartition(".")[2]
    alone = sum(other.rpartition(".")[2] == last for other in changes) == 1
    words, value = (last.replace("_", " ") if alone else key), changes[key]
    if isinstance(value, bool):
        return words if value else f"no {words}"
    return f"{words} {value}"


def at_size(value: Any, size: Size) -> Any:
    """``value`` with every mapping by size, at any depth, replaced by its value for ``size``."""
    if isinstance(value, dict):
        if _by_size(value):
            return at_size(value.get(size, value["paper"]), size)
        return {key: at_size(inner, size) for key, inner in value.items()}
    return [at_size(inner, size) for inner in value] if isinstance(value, list) else value


def _by_size(value: Any) -> bool:
    """Whether ``value`` is a mapping by size: all keys are sizes, and those that must be stated are there."""
    return isinstance(value, dict) and set(value) >= STATED and set(value) <= set(SIZES)


def _part(folder: Path, source: str, around: tuple[str, ...], part: Any) -> Any:
    """The values of an encoder that a concatenation names. The concatenation stores them in place of the name."""
    others = [other.stem for other in (folder / "encoders").glob("*.yaml")]
    if not isinstance(part, str) or part not in others or part == around[-1]:
        hint = nearest(str(part), others)
        raise UserError(f"{source}: key 'parts': there is no other encoder {shown(part)}{hint}")
    if part in around:
        raise UserError(f"{source}: key 'parts': {' -> '.join((*around, part))} goes in a circle")
    if len(around) > DEEPEST_PARTS:
        raise UserError(f"{source}: key 'parts': more than {DEEPEST_PARTS} nested concatenations")
    return dump(load_one(folder, "encoders", part, around=around))


def load_run(values: Mapping[str, Any], source: str) -> Run:
    """The validated run config.

    Args:
        values: the config files of the run, merged as Snakemake merges them.
        source: where the values come from; error messages start with it.

    Raises:
        UserError: one line for each error.
    """
    check_plain(dict(values), source)
    return validate(Run, dict(values), source)


def validate(model: type[Model], values: dict[str, Any], source: str) -> Model:
    """``values`` as a ``model``.

    Raises:
        UserError: one line for each error; each starts with ``source``.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        lines = [_line(source, model, dict(details)) for details in error.errors(include_url=False)]
        raise UserError("\n".join(lines)) from None


def check_run(run: Run, catalogue: Catalogue, source: str) -> None:
    """Check that every experiment of the run exists.

    Raises:
        UserError: one line for each that does not.
    """
    missing = [name for name in run.experiments if name not in catalogue.experiments]
    if missing:
        hints = [f"'{name}'{nearest(name, catalogue.experiments)}" for name in missing]
        raise UserError("\n".join(f"{source}: key 'experiments': there is no experiment {hint}" for hint in hints))


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        UserError: there is no such file or no mapping in it; the message has the file, the line and the problem.
    """
    if not path.exists() and not path.is_symlink():
        others = [other.stem for other in path.parent.glob("*.yaml")]
        raise UserError(f"{path}: there is no such file{nearest(path.stem, others)}")
    return read_mapping(path)


def _stray_files(folder: Path) -> list[str]:
    """One line for each file that looks like a config file but is never read."""
    strays = [
        path
        for kind in KINDS
        for path in sorted((folder / kind).glob("*"))
        if path.suffix != ".yaml" and path.suffix.lower() in (".yml", ".yaml", ".json", ".toml")
    ]
    return [f"{path}: is ignored: name it {path.stem}.yaml" for path in strays if not path.name.startswith(".")]


def _inherited(folder: Path, kind: str, name: str, seen: tuple[str, ...]) -> dict[str, Any]:
    path = folder / kind / f"{name}.yaml"
    if name in seen:
        raise UserError(f"{path}: key 'base': {' -> '.join((*seen, name))} goes in a circle")
    if len(seen) > LONGEST_CHAIN:
        raise UserError(f"{path}: key 'base': more than {LONGEST_CHAIN} files inherit from each other")
    values = read_yaml(path)
    base = values.pop("base", None)
    if base is None:
        return values
    others = [other.stem for other in path.parent.glob("*.yaml")]
    if not isinstance(base, str) or base not in others:
        raise UserError(f"{path}: key 'base': there is no {shown(base)}{nearest(str(base), others)}")
    return _merged(_inherited(folder, kind, base, (*seen, name)), values)


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """``above`` laid over ``below``, mappings key by key."""
    result = dict(below)
    for key, value in above.items():
        old = result.get(key)
        if isinstance(old, dict) and isinstance(value, dict) and not _by_size(old) and not _by_size(value):
            value = _merged(old, value)
        result[key] = value
    return result


def _line(source: str, model: type[BaseModel], details: dict[str, Any]) -> str:
    location = [part for number, part in enumerate(details["loc"]) if not _is_tag(details["loc"], number)]
    key = ".".join(" ".join(str(part).split()) for part in location)
    value, context = details["input"], details.get("ctx", {})
    if details["type"] == "inside":
        return f"{source}: key '{key}.{context['key']}': {' '.join(context['message'].split())}"
    if details["type"] == "string_pattern_mismatch" and context["pattern"] in IN_WORDS:
        words = f"{shown(value)} {IN_WORDS[context['pattern']]}"
        return f"{source}: rename it: {words}" if location == ["id"] else f"{source}: key '{key}': {words}"
    if details["type"] == "extra_forbidden":
        return f"{source}: unknown key '{key}'{nearest(str(location[-1]), _siblings(model, details['loc']))}"
    if details["type"] == "missing":
        return f"{source}: key '{key}' is missing"
    message = " ".join(details["msg"].removeprefix("Value error, ").split())
    if details["type"] == "value_error":
        return f"{source}: {message}" if message.startswith("key ") else f"{source}: key '{key}': {message}"
    if details["type"] in ("union_tag_invalid", "union_tag_not_found"):
        expected = context.get("expected_tags", "'blocks', 'stages'" if location[:1] == ["features"] else "")
        kind = value.get("kind") if isinstance(value, dict) else value
        return (
            f"{source}: key '{key}': the kind {shown(kind)} is none of {expected or 'the kinds in docs/experiments.md'}"
        )
    if details["type"] == "literal_error" and isinstance(value, str):
        options = [part.strip(" '") for part in context["expected"].replace(" or ", ", ").split(", ")]
        return f"{source}: key '{key}': {shown(value)} is none of {context['expected']}{_guess(value, options)}"
    return f"{source}: key '{key}': {message[0].lower()}{message[1:]}, not {shown(value)}"


def _guess(name: str, options: list[str]) -> str:
    close = difflib.get_close_matches(name[:LONGEST_NAME], options, n=1)
    return f"; did you mean '{close[0]}'?" if close else ""


_TAGS = {
    "blocks",
    "stages",
    "list[str]",
    "dict[str,str]",
    "PackageWeights",
    "HubWeights",
    "LocalWeights",
    "literal['random']",
}


def _is_tag(location: tuple[Any, ...], number: int) -> bool:
    """Whether a part is a tag and not a key: pydantic puts the tag of a union's model after the key that holds it."""
    if location[0] in ("tables", "figures") and number <= 2:  # the name of a table or figure may be any word
        return number == 2 and location[number] in kinds.names(location[0])
    return isinstance(location[number], str) and location[number] in _TAGS


def _siblings(model: type[BaseModel], location: tuple[Any, ...]) -> list[str]:
    """The keys that are allowed in place of the unknown key at ``location``."""
    models: list[type[BaseModel]] = [model]
    for part in location[:-1]:
        following: list[type[BaseModel]] = []
        for current in models:
            annotation = current.model_fields[part].annotation if part in current.model_fields else None
            following += _models_in(annotation)
        following = following or [model for model in models if part in _kinds_of(model)]
        models = following or models
    return [key for current in models for key in current.model_fields if key != "id"]


def _kinds_of(model: type[BaseModel]) -> tuple[Any, ...]:
    """The tags that select ``model`` in a union."""
    return get_args(model.model_fields["kind"].annotation) if "kind" in model.model_fields else ()


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    marks = (mark for mark in getattr(annotation, "__metadata__", ()) if isinstance(mark, OfKind))
    arguments = [*getattr(annotation, "__args__", ()), *(model for mark in marks for model in mark.models())]
    return [found for argument in arguments for found in _models_in(argument)]


def _check_experiment(
    path: Path, experiment: Experiment, catalogue: Catalogue, files: set[tuple[str, str]]
) -> list[str]:
    """One line for each id that does not exist, and for each problem of a table or figure with the selected cells."""
    errors = []
    for number, grid in enumerate(experiment.cells):
        for kind in ("datasets", "encoders", "methods"):
            known = {name for k, name in files if k == kind}
            unknown: dict[str, str] = {}  # only the first of several variants of one base
            for name in getattr(grid, kind):
                if name not in known:
                    unknown.setdefault(name.partition("@")[0], name)
            for base, name in unknown.items():
                kind_name, hint = kind.removesuffix("s"), nearest(base, known)
                errors.append(f"{path}: key 'cells.{number}.{kind}': there is no {kind_name} '{name}'{hint}")
    cells = catalogue.cells(experiment)
    whole = all(cell.method in catalogue.methods and cell.encoder in catalogue.encoders for cell in cells)
    if errors or not whole:  # each broken file is already reported
        return errors
    for number, grid in enumerate(experiment.cells):
        learning = [name for name in grid.methods if catalogue.methods[name].draws] if 0 in grid.shots else []
        if learning:
            errors.append(
                f"{path}: key 'cells.{number}.shots': 0 is for methods that learn from no drawn image, and {learning[0]} "
                "learns from them; give it a grid of its own"
            )
    for group in ("tables", "figures"):
        for name, spec in getattr(experiment, group).items():
            for problem in spec.problems(cells, catalogue):
                key = ".".join(part for part in (group, name, problem.key) if part)
                errors.append(f"{path}: key '{key}': {problem.text}")
    return errors
