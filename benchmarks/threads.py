"""Finds the faster split of two cores for two fits: one thread each side by side, or two threads each in turn.

Run it in the project's folder after the demo. It fits one demo cell into folders of its own and prints both times and
their ratio. This is the reason for ``threads.fit: 1`` in config/config.yaml.
"""

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CELL = ["textures", "efficientnet-lite0", "foundad", "--shots", "4", "--seed", "0", "--device", "cpu"]
NEEDED = ("manifests", "features/textures", "banks/textures", "data")


def start(results: Path, threads: int) -> subprocess.Popen[bytes]:
    """Start a fit of the cell below ``results``."""
    command = [sys.executable, "-m", "foundad", "fit", *CELL, "--threads", str(threads), "--results", str(results)]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL)


def seconds(folders: list[Path], threads: int, side_by_side: bool) -> float:
    """Wall time in seconds of one fit per folder."""
    started = time.perf_counter()
    running = []
    for folder in folders:
        running.append(start(folder, threads))
        if not side_by_side:
            running[-1].wait()
    if any(process.wait() for process in running):
        sys.exit("a fit failed: run the demo first (make tables)")
    return time.perf_counter() - started


def main() -> None:
    """Measure and print both splits, twice in turn."""
    with tempfile.TemporaryDirectory() as temporary:
        folders = [Path(temporary) / name for name in "ab"]
        for folder in folders:
            for part in NEEDED:
                (folder / part).parent.mkdir(parents=True, exist_ok=True)
                (folder / part).symlink_to((Path("results") / part).resolve())
        for _ in range(2):
            beside = seconds(folders, threads=1, side_by_side=True)
            after = seconds(folders, threads=2, side_by_side=False)
            print(f"two fits: 2 x 1 thread {beside:.1f} s, 1 x 2 threads {after:.1f} s, ratio {after / beside:.2f}")
        for folder in folders:
            shutil.rmtree(folder / "cells")


if __name__ == "__main__":
    main()
