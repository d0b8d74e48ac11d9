"""Stage ``figure``: one figure of an experiment as PNG and PDF, with its data as CSV beside it. One file a kind.

Here is which kinds there are; :mod:`foundad.report.figures.base` says what one must answer. To add one, drop its file.
"""

from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from foundad.paths import Results
from foundad.report.kinds import models

if TYPE_CHECKING:
    from foundad.config.experiment import Experiment
    from foundad.plan.catalogue import Catalogue


def kinds() -> dict[str, Any]:
    """Kind -> class, a subclass of :class:`foundad.report.figures.base.Figure`."""
    return models("figures")


def union() -> Any:
    """What an experiment's figure may be, by its key ``kind``."""
    return Annotated[reduce(or_, kinds().values()), Field(discriminator="kind")]


def write_figure(results: Results, catalogue: "Catalogue", experiment: "Experiment", name: str) -> None:
    """Draw the figure ``name`` of ``experiment``."""
    experiment.figures[name].draw(results, catalogue, experiment, results.figure(experiment.id, name, "png"))
