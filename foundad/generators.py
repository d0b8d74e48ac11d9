"""Random numbers that a name decides: the same on every machine, in any order and batch."""

import hashlib

import numpy as np


def generator_of(name: str, *seeds: int) -> np.random.Generator:
    """The generator of what is called ``name``, under these seeds: PCG64 of them and of the words of the name's SHA-256."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
    return np.random.default_rng([*seeds, *np.frombuffer(digest, "<u4").tolist()])
