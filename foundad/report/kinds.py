"""Finds the kinds of tables and figures: one file each in report/tables and report/figures.

A file has the name of its kind (top_k.py is ``top-k``), a value of the key ``kind`` in the YAML of experiments.
base.py is not a kind; it says what a kind defines. All other code that a kind needs is outside these folders.
"""

import importlib
from functools import cache
from pathlib import Path
from typing import Any, get_args

from foundad.config.base import Strict
from foundad.errors import UserError


@cache
def names(group: str) -> tuple[str, ...]:
    """The kinds of ``tables`` or ``figures``, sorted; imports none of them."""
    stems = {path.stem for path in (Path(__file__).parent / group).glob("[a-z]*.py")}
    return tuple(sorted(stem.replace("_", "-") for stem in stems - {"base"}))


@cache
def models(group: str) -> dict[str, Any]:
    """Kind -> class.

    Raises:
        UserError: a file holds no class of its kind.
    """
    return {kind: _model(group, kind) for kind in names(group)}


def _model(group: str, kind: str) -> Any:
    """The class with ``kind: Literal[kind]``; the file has the name of the kind."""
    module = importlib.import_module(f"foundad.report.{group}.{kind.replace('-', '_')}")
    for value in vars(module).values():
        if isinstance(value, type) and issubclass(value, Strict) and value.__module__ == module.__name__:
            field = value.model_fields.get("kind")
            if field is not None and get_args(field.annotation) == (kind,):
                return value
    raise UserError(
        f"{module.__file__}: holds no class with the key kind: Literal['{kind}']; name the file after the kind of its class"
    )
