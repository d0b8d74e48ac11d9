"""What a metric is: an entry with its id, its words, and the name of the function that computes it."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from foundad.errors import UserError

# How each protocol prepares the masks. The id of a pixel metric begins with one of these names.
PROTOCOLS = {
    "strict": "masks binarised (> 0), then nearest; every distinct score a threshold",
    "released": "as FoundAD's released code: masks resized bilinearly, only pixels of exactly 1 are defects",
}


class Undefined(Exception):
    """A metric has no value in a category; the message is the reason that readers see.

    Without a message there is no row at all, because another metric already says why.
    """


@dataclass(frozen=True)
class Metric:
    """One metric. Its unit is ``share``, values in [0,1], or ``score``, values on the scale of the model's scores.

    id: ``protocol/name`` of a pixel metric, ``name`` alone of an image metric. name: the head of table columns.
    definition, source: what it is and where it comes from. function: ``module:name`` of the function that computes it
    from a :class:`foundad.metrics.category.Category` (image metrics) or :class:`foundad.metrics.pixels.Pixels` (pixel
    metrics); it returns a float or raises :class:`Undefined`. main: one of the few that comparisons show by default.
    """

    id: str
    name: str
    definition: str
    source: str
    function: str
    unit: str = "share"
    higher_is_better: bool = True
    main: bool = False

    @property
    def protocol(self) -> str:
        """The protocol of a pixel metric, empty for an image metric."""
        return self.id.rpartition("/")[0]

    @property
    def module(self) -> str:
        """The module of the function."""
        return self.function.partition(":")[0]

    @property
    def words(self) -> list[str | bool]:
        """All that is printed of the metric or decides how; tables and pages that show it depend on these words."""
        return [self.id, self.name, self.definition, self.source, self.unit, self.higher_is_better, self.main]

    def compute(self, given: Any) -> float:
        """Compute the value in a category; imports the function's module.

        Raises:
            Undefined: the metric has no value there.
            UserError: there is no such function.
        """
        try:
            function: Callable[[Any], float] = getattr(import_module(self.module), self.function.partition(":")[2])
        except (ImportError, AttributeError, ValueError) as error:
            raise UserError(
                f"metric {self.id}: cannot load its function {self.function!r}: {error}; mend key function"
            ) from None
        return function(given)
