"""Choosing among cells: those of a table or figure, and those whose cost is measured."""

from collections.abc import Iterable, Mapping, Sequence

from foundad.cells import AXES, Axis, Cell


def chosen_cells(cells: Iterable[Cell], where: Mapping[Axis, Sequence[str | int]]) -> list[Cell]:
    """The ``cells`` that ``where`` lets through, in the order ``where`` and the cells name them."""
    order = {axis: list(allowed) for axis, allowed in where.items() if axis != "category"}
    chosen = [c for c in cells if all(getattr(c, axis) in allowed for axis, allowed in order.items())]
    return sorted(chosen, key=lambda cell: [allowed.index(getattr(cell, axis)) for axis, allowed in order.items()])


def measured_cells(cells: Iterable[Cell], where: Mapping[Axis, Sequence[str | int]]) -> list[Cell]:
    """The :func:`chosen_cells` whose cost is measured: of each the first seed alone, since seeds cost the same."""
    chosen = chosen_cells(cells, where)
    axes = [axis for axis in AXES if axis != "seed"]
    first = {tuple(getattr(cell, axis) for axis in axes): cell for cell in reversed(chosen)}
    return [cell for cell in chosen if first[tuple(getattr(cell, axis) for axis in axes)] is cell]
