"""Keys of an experiment: config/experiments/*.yaml. Its tables and figures are models of their own kinds."""

import importlib
import math
from itertools import product
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, GetCoreSchemaHandler, model_validator
from pydantic_core import PydanticCustomError

from foundad.config.base import Id, Strict, VariantId

MOST_CELLS = 200_000  # of one experiment; the whole paper has a few thousand


class Grid(Strict):
    """A grid of cells: every combination of these values is one."""

    datasets: list[Id] = Field(min_length=1)
    encoders: list[VariantId] = Field(min_length=1, description="ids, or {base: id, vary: {key: [values]}}")
    methods: list[VariantId] = Field(min_length=1, description="ids, or {base: id, vary: {key: [values]}}")
    shots: list[Annotated[int, Field(ge=0)]] = Field(
        min_length=1, description="drawn images per category; 0 for methods that learn from none"
    )
    seeds: list[Annotated[int, Field(ge=0)]] = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _varied(cls, values: Any) -> Any:
        """Write out ``{base: foundad, vary: {training.steps: [20, 40]}}`` as one variant per combination of the values."""
        if not isinstance(values, dict):
            return values
        named = {kind: values[kind] for kind in ("encoders", "methods") if isinstance(values.get(kind), list)}
        return values | {
            kind: [name for number, entry in enumerate(found) for name in variants(entry, f"{kind}.{number}")]
            for kind, found in named.items()
        }


def variants(entry: Any, key: str) -> list[Any]:
    """The ids that an entry of a grid names: the entry itself, or one id per combination of the values of its key ``vary``.

    Raises:
        PydanticCustomError: the entry is neither an id nor such a mapping; the message names ``key``, the entry's own.
    """
    if not isinstance(entry, dict):
        return [entry]
    base, vary = entry.get("base"), entry.get("vary")
    if set(entry) != {"base", "vary"} or not isinstance(base, str) or not isinstance(vary, dict) or not vary:
        raise _wrong(key, "write an id, or {base: id, vary: {key: [values]}}")
    changes = []
    for name, found in sorted(vary.items(), key=str):  # one id, in whatever order they are written
        if not isinstance(found, list) or not found or not all(isinstance(v, bool | int | float | str) for v in found):
            raise _wrong(f"{key}.vary", f"{name}: write a list of numbers or words")
        changes.append([f"{name}={str(v).lower() if isinstance(v, bool) else v}" for v in found])
    return [f"{base}@{','.join(chosen)}" for chosen in product(*changes)]


def _wrong(key: str, message: str) -> PydanticCustomError:
    """An error at a ``key`` inside the value that is validated."""
    return PydanticCustomError("inside", "{message}", {"key": key, "message": message})


class OfKind:
    """Marks a value whose model its key ``kind`` chooses, out of foundad/report/tables/ or foundad/report/figures/.

    The models are imported when the first experiment is read, and by name, so that no key holds all of them.
    """

    def __init__(self, group: Literal["tables", "figures"]) -> None:
        self.group = group

    def models(self) -> list[type[Strict]]:
        """The models of all kinds of the group."""
        return list(self._registry.kinds().values())

    @property
    def _registry(self) -> Any:
        return importlib.import_module(f"foundad.report.{self.group}")

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> Any:
        return handler.generate_schema(self._registry.union())


class Experiment(Strict):
    """One experiment: the cells that it selects, and the tables and figures made of them.

    tables, figures: name -> :class:`foundad.report.tables.base.Table` or :class:`foundad.report.figures.base.Figure`.
    """

    model_config = ConfigDict(defer_build=True)  # until the first experiment is read: some kinds import this file

    id: Id
    title: str
    cells: list[Grid] = Field(min_length=1)
    tables: dict[Id, Annotated[Any, OfKind("tables")]] = Field(default_factory=dict)
    figures: dict[Id, Annotated[Any, OfKind("figures")]] = Field(default_factory=dict)
    skip_if_absent: bool = Field(
        False, description="leave the experiment out, and say so, when the folder of a dataset is not there"
    )

    @model_validator(mode="after")
    def _possible(self) -> "Experiment":
        cells = sum(math.prod(len(values) for _, values in grid) for grid in self.cells)
        if cells > MOST_CELLS:
            raise ValueError(f"key 'cells': selects {cells} cells; at most {MOST_CELLS} make an experiment")
        return self
