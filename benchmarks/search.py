"""Exact nearest-neighbour search against the bare matrix product it is made of, in one run.

    OMP_NUM_THREADS=1 python benchmarks/search.py [--memory 100000] [--queries 1024] [--channels 768] [--rounds 5]

Patch tokens in clusters. Seconds of the processor, which other processes disturb less than those of the clock; the best of
the rounds, rounds interleaved; ratios are to the bare product of the same library in float32. Prints the bytes that a search
holds beside memory and queries, that torch in float32 and bfloat16 finds the neighbours that numpy does, and the AUROC of the
distances by each. faiss takes part where it is installed.
"""

import argparse
import importlib.util
import time
import tracemalloc
from collections.abc import Callable

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from foundad.config import Search
from foundad.search import QUERIES, TILE, Memory


def scene(memory: int, queries: int, channels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Normal vectors, queries of which every fourth lies apart, and which do."""
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(64, channels)).astype(np.float32)
    noise = generator.normal(size=(memory + queries, channels)).astype(np.float32)
    vectors = centres[generator.integers(64, size=memory + queries)] + noise / 2
    apart = np.arange(queries) % 4 == 0
    vectors[memory:][apart] += generator.normal(0, 0.08, (apart.sum(), channels)).astype(np.float32)
    return vectors[:memory], vectors[memory:], apart


def main() -> None:
    """Run all contenders and print what they took."""
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
    best = dict.fromkeys(contenders, np.inf)
    for _ in range(arguments.rounds):
        for name, run in contenders.items():
            start = time.process_time()
            run()
            best[name] = min(best[name], time.process_time() - start)
    threads = torch.get_num_threads()
    print(
        f"{arguments.memory} x {arguments.queries} x {arguments.channels}, {threads} thread(s), best of {arguments.rounds}"
    )
    for name, seconds in best.items():
        bare = best["bare product, torch" if "torch" in name else "bare product, numpy"]
        print(f"{name:<30}{seconds:8.3f} s {seconds / bare:8.2f} x its bare product")
    tracemalloc.start()
    memories["numpy"].nearest(queries)
    held = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    products = min(len(queries), QUERIES) * TILE * 4
    print(
        f"held beside memory and queries: {held / 2**20:.0f} MiB at most, of them products {products / 2**20:.0f} MiB"
    )
    reference, rows = memories["numpy"].nearest(queries)
    for name, memory in memories.items():
        distances, found = memory.nearest(queries)
        auroc = roc_auc_score(apart, distances[:, 0])
        print(f"{name:<30}same neighbours {(found == rows).mean():.4f}   AUROC {auroc:.6f}")
    assert (reference >= 0).all()


if __name__ == "__main__":
    main()
