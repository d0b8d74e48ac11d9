"""Every rival against what public code computed on random tokens and small random networks (benchmarks/parity)."""

import importlib.util
import json

import numpy as np
import pytest
from conftest import ROOT

GOLDEN = sorted((ROOT / "tests" / "golden" / "parity").glob("*.npz"))
_spec = importlib.util.spec_from_file_location("parity_compare", ROOT / "benchmarks" / "parity" / "compare.py")
compare = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(compare)


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_a_rival_equals_the_public_code(path):
    arrays = np.load(path)
    compared = compare.COMPARISONS[path.stem](arrays)
    assert compared
    for what, (own, theirs) in compared.items():
        assert own.shape == theirs.shape, what
        assert compare.difference(own, theirs) <= 1e-5, what


def test_kept_arrays_state_a_source_whose_licence_allows_it():
    assert {"anomalydino", "padim", "patchcore", "rad", "spade", "subspacead"} <= {path.stem for path in GOLDEN}
    for path in GOLDEN:
        source = json.loads(str(np.load(path)["source"]))
        assert source["licence"] in ("Apache-2.0", "MIT")
        assert source["repository"]
        assert source["commit"]
