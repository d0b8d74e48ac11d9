"""Compares the greedy k-centre coreset with the straightforward loop, in one run: whether rows agree, and the speed.

    OMP_NUM_THREADS=1 python benchmarks/coreset.py [--vectors 50000] [--channels 512] [--share 0.1] [--steps 300]

The vectors are patch vectors in clusters, projected to 128 dimensions. After every centre, the loop computes the
distance of all vectors to it, as public implementations do. It runs for ``--steps`` centres, whose time is scaled up
(every step costs the same), or for all of them with ``--steps 0``. Times are processor seconds. Exits with 1 if the
rows differ.
"""

import argparse
import sys
import time

import numpy as np
from harness import Figures

from foundad.detection.shared.coreset import greedy_k_centre, project


def plain(vectors: np.ndarray, count: int, first: int) -> list[int]:
    """The straightforward loop."""
    chosen = [first]
    distances = np.full(len(vectors), np.inf, vectors.dtype)
    while len(chosen) < count:
        distances = np.minimum(distances, np.linalg.norm(vectors - vectors[chosen[-1]], axis=1))
        distances[chosen[-1]] = -1
        chosen.append(int(np.argmax(distances)))
    return chosen


def main() -> int:
    """Run both and print their times; returns 1 if they disagree."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name, value in (("vectors", 50_000), ("channels", 512), ("steps", 300)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--share", type=float, default=0.1)
    arguments = parser.parse_args()
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(64, arguments.channels))
    noise = generator.normal(size=(arguments.vectors, arguments.channels))
    vectors = (centres[generator.integers(64, size=arguments.vectors)] + noise / 2).astype(np.float32)
    projected = project(vectors, 128, 0)
    count = round(arguments.share * len(vectors))
    steps = min(arguments.steps or count, count)

    figures = Figures("coreset", f"processor seconds of {count} of {len(vectors)} vectors in 128 dimensions")
    start = time.process_time()
    ours = greedy_k_centre(projected, count)
    seconds = time.process_time() - start
    same = True
    for dtype in (np.float64, np.float32):
        start = time.process_time()
        theirs = plain(projected.astype(dtype), steps, 0)
        loop = (time.process_time() - start) * count / steps
        equal = theirs == ours[:steps].tolist()
        note = f"the same rows: {equal}" + ("" if steps == count else f"; the loop scaled from {steps} steps")
        what = f"against the plain loop in {np.dtype(dtype).name}"
        figures.add(what, seconds, loop, bar=">= 10 times sooner", ratio=loop / seconds, note=note)
        same &= equal or dtype == np.float32  # float32: rounding decides near ties
    figures.finish()
    return int(not same)


if __name__ == "__main__":
    sys.exit(main())
