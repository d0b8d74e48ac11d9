"""Stage ``table``: one table of an experiment as Markdown, LaTeX (booktabs), CSV and HTML. One file a kind.

Here is which kinds there are; :mod:`foundad.report.tables.base` says what one must answer. To add one, drop its file.
"""

from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Discriminator, Tag

from foundad.paths import Results
from foundad.report.kinds import models

if TYPE_CHECKING:
    from foundad.config.experiment import Experiment
    from foundad.plan.catalogue import Catalogue

DEFAULT = "metrics"


def kinds() -> dict[str, Any]:
    """Kind -> class, a subclass of :class:`foundad.report.tables.base.Table`."""
    return models("tables")


def union() -> Any:
    """What an experiment's table may be, by its key ``kind``."""
    tagged = (Annotated[model, Tag(kind)] for kind, model in kinds().items())
    return Annotated[reduce(or_, tagged), Discriminator(_kind)]


def _kind(value: Any) -> str | None:
    """The key ``kind`` of a table, :data:`DEFAULT` where there is none; None for what is no table."""
    kind = value.get("kind", DEFAULT) if isinstance(value, dict) else getattr(value, "kind", None)
    return kind if isinstance(kind, str) else None


def write_table(results: Results, catalogue: "Catalogue", experiment: "Experiment", name: str) -> None:
    """Write the four files of the table ``name`` of ``experiment``."""
    experiment.tables[name].write(results, catalogue, experiment, name)
