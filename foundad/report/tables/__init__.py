"""Stage ``table``: writes one table of an experiment as Markdown, LaTeX (booktabs), CSV and HTML. One file per kind.

This file lists the kinds; :mod:`foundad.report.tables.base` says what a kind defines. To add a kind, add its file.
"""

from functools import reduce
from operator import or_
from typing import Annotated, Any

from pydantic import Discriminator, Tag

from foundad.report.kinds import models

DEFAULT = "metrics"


def kinds() -> dict[str, Any]:
    """Kind -> class, a subclass of :class:`foundad.report.tables.base.Table`."""
    return models("tables")


def union() -> Any:
    """The type of an experiment's table: any kind, told apart by its key ``kind``."""
    tagged = (Annotated[model, Tag(kind)] for kind, model in kinds().items())
    return Annotated[reduce(or_, tagged), Discriminator(_kind)]


def _kind(value: Any) -> str | None:
    """The key ``kind`` of a table, :data:`DEFAULT` if it is absent; None if ``value`` is not a table."""
    kind = value.get("kind", DEFAULT) if isinstance(value, dict) else getattr(value, "kind", None)
    return kind if isinstance(kind, str) else None
