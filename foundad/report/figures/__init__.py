"""Stage ``figure``: draws one figure of an experiment as PNG and PDF, with its data as CSV. One file per kind.

This file lists the kinds; :mod:`foundad.report.figures.base` says what a kind defines. To add a kind, add its file.
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
    """The type of an experiment's figure: any kind, told apart by its key ``kind``."""
    return Annotated[reduce(or_, kinds().values()), Field(discriminator="kind")]
