"""Published numbers beside ours: what results/reference/ says about a cell.

A value counts only if dataset, encoder, method, scope, shots, metric and protocol agree (names.yaml maps our names to
those of the sources). A value is second-hand if its source says so; then a note says it too.
"""

import csv
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foundad.cells import Cell
from foundad.errors import UserError
from foundad.yamlfile import read_mapping

if TYPE_CHECKING:
    from foundad.config.method import Method

REFERENCE = Path("results/reference")
FILES = (REFERENCE / "paper_results.csv", REFERENCE / "names.yaml")
COSTS = {"params_m": "M parameters", "ms_per_image": "ms per image", "mem_mib": "MiB"}
SECOND_HAND = ("via", "quoted", "quoting", "abstract")


def published(cell: Cell, method: "Method", metric: str) -> tuple[float, tuple[str, ...]] | None:
    """The published share for ``metric`` of a cell and notes with its sources, or None if nothing agrees.

    If sources differ, it is the value that most of them give; the others are in the notes.
    """
    rows, names = _reference(Path.cwd())
    known = names["methods"].get(method.id)
    dataset, encoders = names["datasets"].get(cell.dataset), names["encoders"].get(cell.encoder, [])
    protocol, _, bare = metric.rpartition("/")
    if known is None or dataset is None or (protocol and protocol != known.get("protocol", "strict")):
        return None
    wanted = {
        "dataset": [dataset],
        "setting": [names["scopes"][method.scope]],
        "shots": [str(cell.shots)],
        "method": [known["name"]],
        "variant": known.get("variants", [""]),
        "encoder": encoders,
        "metric": [names["metrics"].get(bare)],
    }
    found = [
        row for row in rows if row["table"] != "re-run" and all(row[key] in values for key, values in wanted.items())
    ]
    if not found:
        return None
    value = Counter(row["value"] for row in found).most_common(1)[0][0]
    notes = [_note(value, found)]
    notes += [f"elsewhere: {_note(other, found)}" for other in sorted({row["value"] for row in found} - {value})]
    return float(value) / 100, tuple(notes)


def published_cost(cell: Cell, method: "Method") -> tuple[str, ...]:
    """What sources say a method costs on an encoder, as a note; empty if they do not say."""
    rows, names = _reference(Path.cwd())
    known, encoders = names["methods"].get(method.id), names["encoders"].get(cell.encoder, [])
    if known is None or "" not in known.get("variants", [""]):
        return ()
    found = [
        row
        for row in rows
        if row["table"] == "efficiency" and row["method"] == known["name"] and row["encoder"] in encoders
    ]
    if not found:
        return ()
    said = "; ".join(f"{row['value']} {COSTS[row['metric']]} ({row['variant']})" for row in found)
    return (f"published (second-hand): {said}: {'; '.join(dict.fromkeys(row['source'] for row in found))}",)


def _note(value: str, rows: Sequence[dict[str, str]]) -> str:
    """``value`` with the sources that give it."""
    sources = dict.fromkeys(row["source"] for row in rows if row["value"] == value)
    unstated = "; encoder not stated" if any(not row["encoder"] for row in rows if row["value"] == value) else ""
    second = all(any(word in source for word in SECOND_HAND) for source in sources)
    return f"{value}{' (second-hand)' if second else ''}: {'; '.join(sources)}{unstated}"


@cache
def _reference(root: Path) -> tuple[list[dict[str, str]], Any]:
    """Rows and names of the project in ``root``, the current folder; empty if there are none."""
    if not all(path.is_file() for path in FILES):
        return [], {"methods": {}, "datasets": {}, "encoders": {}}
    try:
        with open(FILES[0], encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{FILES[0]}: cannot be read ({error}); restore it with: git checkout {FILES[0]}") from None
    return rows, read_mapping(FILES[1])
