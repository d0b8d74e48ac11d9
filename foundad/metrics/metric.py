"""What a metric is: one entry of its id, its words, and the name of the function that computes it."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from foundad.errors import UserError

# How masks become those that pixels are compared with. A pixel metric's id begins with one of these names.
PROTOCOLS = {
    "strict": "masks binarised (> 0), then nearest; every distinct score a threshold",
    "released": "as FoundAD's released code: masks resized bilinearly, only pixels of exactly 1 are defects",
}


class Undefined(Exception):
    """A metric has no value in a category; the message is the reason that readers see.

    Without a message there is no row at all: the metric that it belongs to says why.
    """


@dataclass(frozen=True)
class Metric:
    """One metric. Values are shares in [0,1], or of the unit ``score``: those of the model.

    id: ``protocol/name`` of a pixel metric, ``name`` alone of an image metric. name: heads table columns. definition, source:
    what it is, and whose. function: ``module:name`` of what computes it, given a :class:`foundad.metrics.category.Category`
    (image metrics) or :class:`foundad.metrics.pixels.Pixels` (pixel metrics); it returns a float or raises
    :class:`Undefined`. main: among the few that comparisons show where none is named.
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
        """All that is printed of it, or decides how: what a table or page of it depends on."""
        return [self.id, self.name, self.definition, self.source, self.unit, self.higher_is_better, self.main]

    def compute(self, given: Any) -> float:
        """Its value in a category; imports the module of the function.

        Raises:
            Undefined: it has none there.
            UserError: the entry names no function.
        """
        try:
            function: Callable[[Any], float] = getattr(import_module(self.module), self.function.partition(":")[2])
        except (ImportError, AttributeError, ValueError) as error:
            raise UserError(
                f"metric {self.id}: its entry names {self.function!r}: {error}; mend key function"
            ) from None
        return function(given)
