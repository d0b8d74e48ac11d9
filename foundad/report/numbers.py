"""The numbers of a table or figure as a CSV file beside it."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from foundad.files import write_text


def write_csv(path: str | Path, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table with a head, whole or not at all; None is an empty field."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    write_text(path, out.getvalue())
