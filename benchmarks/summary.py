"""Gathers the figures of all benchmarks in results/benchmarks.md, with a bar chart; `make bench` runs it at the end."""

import json
from typing import Any

import matplotlib
from harness import FOLDER

matplotlib.use("Agg")
import matplotlib.pyplot as plt

COLUMNS = "| | ours | straightforward | floor | straightforward / ours | ours / floor | bar | reached |"


def number(value: float | None) -> str:
    """``value`` with four significant digits, or nothing."""
    return "" if value is None else f"{value:.4g}"


def line(row: dict[str, Any]) -> str:
    """One row of the table."""
    ours, plain, floor = row["ours"], row["straightforward"], row["floor"]
    cells = [row["what"], number(ours), number(plain), number(floor)]
    cells += [number(plain / ours if plain else None), number(ours / floor if floor else None)]
    cells += [row["bar"], number(row["ratio"]), row["note"]]
    return f"| {' | '.join(cells)} |"


def chart(found: dict[str, Any]) -> None:
    """Draw how many times faster than the straightforward way we are, one bar per row, on a logarithmic scale."""
    bars = [
        (f"{name}: {row['what']}", row["straightforward"] / row["ours"])
        for name, facts in found.items()
        for row in facts["rows"]
        if row["straightforward"]
    ]
    figure, axes = plt.subplots(figsize=(8, 0.32 * len(bars) + 1))
    axes.barh([name for name, _ in bars], [ratio for _, ratio in bars], color="#3b6ea5")
    for place, (_, ratio) in enumerate(bars):
        axes.text(ratio, place, f" {ratio:.1f}", va="center", fontsize=8)
    axes.set_xscale("log")
    axes.margins(x=0.12, y=0.01)
    axes.set_xlim(left=min([1.0, *(ratio for _, ratio in bars)]))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("times the straightforward way's speed")
    axes.invert_yaxis()
    axes.tick_params(axis="y", labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(FOLDER.with_suffix(".png"), dpi=150, bbox_inches="tight")


def main() -> None:
    """Write the page and the chart."""
    found = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
    if not found:
        raise SystemExit(f"{FOLDER}: holds no figures; run `make bench`")
    lines = ["# Benchmarks", "", f"![Speed against the straightforward way]({FOLDER.name}.png)", ""]
    for name, facts in found.items():
        lines += [f"## {name}", "", f"{facts['machine']}; {facts['unit']}", "", f"{COLUMNS} note |", "|" + "---|" * 9]
        lines += [line(row) for row in facts["rows"]] + [""]
    FOLDER.with_suffix(".md").write_text("\n".join(lines))
    chart(found)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
