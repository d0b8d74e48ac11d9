"""Stage ``figure``: one figure of an experiment as PNG and PDF, with its data as CSV beside it. One file a kind.

Here is which kinds there are; :mod:`foundad.report.figures.base` says what one must answer. To add one, drop its file.
"""

from functools import reduce
from operator import or_
from typing import Annotated, Any

from pydantic import Field

from foundad.report.kinds import models


def kinds() -> dict[str, Any]:
    """Kind -> class, a subclass of :class:`foundad.report.figures.base.Figure`."""
    return models("figures")


def union() -> Any:
    """What an experiment's figure may be, by its key ``kind``."""
    return Annotated[reduce(or_, kinds().values()), Field(discriminator="kind")]
