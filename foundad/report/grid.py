"""A table that is laid out but not yet written in any format."""

from dataclasses import dataclass, field
from typing import Any

from foundad.report.aggregate import Summary

DASH = "–"
Key = tuple[Any, ...]


@dataclass
class Grid:
    """A laid-out table: row and column keys with their titles, a summary per entry, marks, notes and a caption."""

    caption: str
    row_titles: dict[Key, list[str]]
    column_titles: dict[Key, list[str]]
    entries: dict[tuple[Key, Key], Summary]
    marks: dict[tuple[Key, Key], str]
    notes: list[str] = field(default_factory=list)
    signed: set[Key] = field(default_factory=set)  # columns of differences
    texts: dict[tuple[Key, Key], str] = field(default_factory=dict)  # printed as they are if an entry has no mean

    def footnotes(self, row: Key, column: Key) -> list[int]:
        """Numbers of the notes of an entry, from 1."""
        return sorted({self.notes.index(note) + 1 for note in self.entries[row, column].notes})
