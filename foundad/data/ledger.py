"""Types of a dataset's ledger: files found = files used + files left out, grouped by the reason.

The ledger lies beside the manifest. :mod:`foundad.data.stock` makes it, and no number depends on it.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from foundad.sealed import Seal, broken, read_json, write_json


@dataclass(frozen=True)
class LeftOut:
    """Files that are left out for one reason; ``files``: the first names, relative to the root."""

    reason: str
    count: int
    files: list[str]


@dataclass(frozen=True)
class Ledger:
    """What became of every file; notes for readers of tables and ``data check``, remarks for ``data check`` only."""

    found: int = 0
    used: int = 0
    left_out: list[LeftOut] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def as_facts(self) -> dict[str, Any]:
        """The ledger as JSON types."""
        return asdict(self)

    @classmethod
    def of_facts(cls, facts: Mapping[str, Any]) -> "Ledger":
        """The ledger that :meth:`as_facts` gave; KeyError or TypeError if ``facts`` are something else."""
        return cls(**dict(facts) | {"left_out": [LeftOut(**kind) for kind in facts["left_out"]]})

    def as_lines(self) -> list[str]:
        """A line with the sum, and one line per reason."""
        rest = sum(kind.count for kind in self.left_out)
        lines = [f"files: {self.found} found = {self.used} used + {rest} left out"]
        for kind in self.left_out:
            names = ", ".join(kind.files[:3]) + (", ..." if kind.count > 3 else "")
            lines.append(f"  {kind.count} left out, {kind.reason}: {names}")
        return lines


def write_ledger(ledger: Ledger, path: Path, key: str = "") -> None:
    """Write ``ledger`` beside the manifest at ``path``."""
    write_json(ledger_of(path), Seal("ledger", key, ledger.as_facts()))


def ledger_of(path: Path) -> Path:
    """The ledger beside the manifest at ``path``."""
    return path.with_name(f"{path.stem}.ledger.json")


def read_ledger(path: Path) -> Ledger:
    """The ledger beside the manifest at ``path``.

    Raises:
        BrokenFile: it is missing or damaged.
    """
    twin = ledger_of(path)
    try:
        return Ledger.of_facts(read_json(twin, "ledger").facts)
    except (OSError, KeyError, TypeError) as error:
        raise broken(twin, f"is no ledger of a dataset ({error})") from None


def manifest_notes(path: Path) -> list[str]:
    """The notes beside the manifest at ``path``; where its dataset failed the first line of the reason.

    Raises:
        BrokenFile: the ledger is missing or damaged.
    """
    from foundad.failures import failure_of

    reason = failure_of(path)
    return read_ledger(path).notes if reason is None else [f"not as it should be: {reason.splitlines()[0]}"]
