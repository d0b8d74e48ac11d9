"""The acceptance of a GPU: equal numbers on CUDA and CPU, claiming it, throughput beside the floors.

    python benchmarks/gpu.py [--device auto] [--seconds 400] [--only equality claim speed] [--out DIR] [--quick]

Needs no workflow, no network and no downloads: pictures are the embedded textures, large encoders have random weights. Rows
are printed as they come and kept in DIR/report.md and DIR/report.json. What a row needs and is not here leaves the row out,
with the reason. Ends with 1 if anything failed. ``--quick`` with ``--device cpu`` compares the CPU with itself, in seconds.
"""

import argparse
import importlib
import os
import sys
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path

from gpu_claim import claims
from gpu_report import Found, Report, facts_of

from foundad.device import choose_device

SECTIONS = ("claim", "equality", "speed")


def main() -> int:
    """All sections; 1 if a row failed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="auto", help="auto, cuda or cpu (default: auto)")
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks/gpu"), metavar="DIR")
    parser.add_argument(
        "--seconds", type=float, default=400, help="after which throughputs are left out (default: 400)"
    )
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS)
    parser.add_argument("--quick", action="store_true", help="small sizes")
    options = parser.parse_args()
    report = Report(options.out, {}, options.seconds)
    if "claim" in options.only:
        report.section = "claim"
        claims(report, options.device)  # before this process takes the GPU
    device = choose_device(options.device)
    if device != options.device and options.device != "auto":
        print(f"device {options.device} is {device} here", file=sys.stderr)
    report.facts |= facts_of(device)
    print(", ".join(f"{name} {value}" for name, value in report.facts.items()), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", f"{folder}/compiled")
        for name in ("equality", "speed"):
            report.section = name
            if name in options.only:
                report.run("all rows", partial(section, name, report, device, options.quick, Path(folder)))
    counts = Counter(row["verdict"] for row in report.rows)
    shown = ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items()))
    print(f"{shown}; {report.out}/report.md, {report.elapsed:.0f} s")
    for row in report.failures:
        print(f"FAILED: {row['section']}: {row['what']}: {row['reason'] or row['text']}")
    return int(bool(report.failures))


def section(name: str, report: Report, device: str, quick: bool, folder: Path) -> Found:
    """Add the rows of a section, which is imported here: what it misses is a row, too."""
    before = len(report.rows)
    found = importlib.import_module(f"gpu_{name}")
    rows = (found.Equality if name == "equality" else found.Speed)(report, device, quick, folder)
    rows.run()
    return Found(f"{len(report.rows) - before} rows")


if __name__ == "__main__":
    sys.exit(main())
