"""Random generators that are seeded by a name: the same numbers on every machine, in any order and batch."""

import hashlib

import numpy as np


def generator_of(name: str, *seeds: int) -> np.random.Generator:
    """A PCG64 generator seeded with ``seeds`` and the 32-bit words of the SHA-256 of ``name``."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
    return np.random.default_rng([*seeds, *np.frombuffer(digest, "<u4").tolist()])
