"""What the benchmark scripts share: interleaved rounds, their medians, and figures that `make bench` gathers.

A shared machine is noisy. So every round times all ways one after the other, and the ratios of medians count.
"""

import json
import os
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

FOLDER = Path(os.environ.get("FOUNDAD_BENCHMARKS", "results/benchmarks"))


def medians(
    ways: Mapping[str, Callable[[], Any]],
    rounds: int,
    warm: bool = True,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Median seconds of every way over ``rounds`` interleaved rounds, after one that is not counted (if ``warm``).

    ``clock``: use time.process_time if one thread computes; other work on the machine disturbs it less.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    if warm:
        for way in ways.values():
            way()
    for _ in range(rounds):
        for name, way in ways.items():
            started = clock()
            way()
            seconds[name].append(clock() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


class Figures:
    """Rows of one benchmark, printed as they come and written as JSON for the summary.

    Args:
        name: of the benchmark and of its file.
        unit: of the numbers.
    """

    def __init__(self, name: str, unit: str) -> None:
        self.name, self.unit = name, unit
        self.rows: list[dict[str, Any]] = []
        print(f"{name}: {machine()}; {unit}", flush=True)

    def add(
        self,
        what: str,
        ours: float,
        straightforward: float | None = None,
        floor: float | None = None,
        bar: str = "",
        ratio: float | None = None,
        note: str = "",
    ) -> None:
        """Add one comparison; ``bar`` is the target for ``ratio``."""
        row = {"what": what, "ours": ours, "straightforward": straightforward, "floor": floor}
        self.rows.append(row | {"bar": bar, "ratio": ratio, "note": note})
        parts = [f"ours {ours:.4g}"]
        if straightforward is not None:
            parts.append(f"straightforward {straightforward:.4g} ({straightforward / ours:.2f} x ours)")
        if floor is not None:
            parts.append(f"floor {floor:.4g} (ours {ours / floor:.2f} x)")
        if bar:
            parts.append(f"bar {bar}: {ratio:.2f}")
        print("  " + ", ".join([f"{what}: {parts[0]}", *parts[1:], *([note] if note else [])]), flush=True)

    def finish(self) -> None:
        """Write the rows as JSON."""
        FOLDER.mkdir(parents=True, exist_ok=True)
        facts = {"unit": self.unit, "machine": machine(), "rows": self.rows}
        (FOLDER / f"{self.name}.json").write_text(json.dumps(facts, indent=1) + "\n")


def machine() -> str:
    """Name of the processor and number of cores."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown processor")
    return f"{name}, {os.cpu_count()} cores"
