"""Compares exact nearest-neighbour search with the bare matrix product inside it, in one run.

    OMP_NUM_THREADS=1 python benchmarks/search.py [--memory 100000] [--queries 1024] [--channels 768] [--rounds 5]

The vectors are patch tokens in clusters. Times are processor seconds, which other processes disturb less than wall
time, as medians of interleaved rounds. Ratios are to the bare product of the same library in float32. Also printed are
the bytes that a search holds besides memory and queries, how many neighbours torch in float32 and bfloat16 has in
common with numpy, and the AUROC of the distances of each. faiss takes part if it is installed.
"""

import argparse
import importlib.util
import time
import tracemalloc
from collections.abc import Callable

import numpy as np
import torch
from harness import Figures, medians
from sklearn.metrics import roc_auc_score

from foundad.config.method import Search
from foundad.detection.shared.search import QUERIES, TILE, Memory


def scene(memory: int, queries: int, channels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Normal vectors, queries of which every fourth is an outlier, and which ones are."""
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(64, channels)).astype(np.float32)
    noise = generator.normal(size=(memory + queries, channels)).astype(np.float32)
    vectors = centres[generator.integers(64, size=memory + queries)] + noise / 2
    apart = np.arange(queries) % 4 == 0
    vectors[memory:][apart] += generator.normal(0, 0.08, (apart.sum(), channels)).astype(np.float32)
    return vectors[:memory], vectors[memory:], apart


def main() -> None:
    """Run all contenders and print their times."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name, value in (("memory", 100_000), ("queries", 1024), ("channels", 768), ("rounds", 5)):
        parser.add_argument(f"--{name}", type=int, default=value)
    arguments = parser.parse_args()
    vectors, queries, apart = scene(arguments.memory, arguments.queries, arguments.channels)
    memories = {
        "numpy": Memory(vectors),
        "torch": Memory(vectors, Search(backend="torch")),
        "torch, bfloat16": Memory(vectors, Search(backend="torch", dtype="bfloat16")),
    }
    on_torch = torch.from_numpy(queries), torch.from_numpy(vectors)
    contenders: dict[str, Callable[[], object]] = {
        "bare product, numpy": lambda: queries @ vectors.T,
        "bare product, torch": lambda: on_torch[0] @ on_torch[1].T,
        **{f"{name}, 1 neighbour": lambda memory=memory: memory.nearest(queries) for name, memory in memories.items()},
        "numpy, 9 neighbours": lambda: memories["numpy"].nearest(queries, 9),
    }
    if importlib.util.find_spec("faiss"):
        import faiss

        index = faiss.IndexFlatL2(arguments.channels)
        index.add(vectors)
        contenders["faiss, 1 neighbour"] = lambda: index.search(queries, 1)
    seconds = medians(contenders, arguments.rounds, clock=time.process_time)
    size = f"{arguments.memory} x {arguments.queries} x {arguments.channels}"
    figures = Figures("search", f"processor seconds of a search, {size}; the floor is the bare matrix product")
    references: dict[str, dict[str, float]] = {}
    _, rows = memories["numpy"].nearest(queries)
    for name, memory in memories.items():
        distances, found = memory.nearest(queries)
        references[name] = {"same": float((found == rows).mean()), "auroc": roc_auc_score(apart, distances[:, 0])}
    for name, taken in seconds.items():
        if name.startswith("bare"):
            continue
        library = "torch" if "torch" in name else "numpy"
        floor = seconds[f"bare product, {library}"]
        facts = references.get(name.removesuffix(", 1 neighbour"))
        note = f"same neighbours {facts['same']:.4f}, AUROC {facts['auroc']:.6f}" if facts else ""
        bar = "<= 1.3 times its bare product" if name == "numpy, 1 neighbour" else ""
        figures.add(name, taken, floor=floor, bar=bar, ratio=taken / floor, note=note)
    tracemalloc.start()
    memories["numpy"].nearest(queries)
    held = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    products = min(len(queries), QUERIES) * TILE * 4
    print(
        f"held beside memory and queries: {held / 2**20:.0f} MiB at most, of them products {products / 2**20:.0f} MiB"
    )
    figures.finish()


if __name__ == "__main__":
    main()
