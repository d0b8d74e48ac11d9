"""Compares a rival with public code that does the same, on random tokens or small random networks; no weights are needed.

    python benchmarks/parity RIVAL --code CHECKOUT [--site FOLDER] [--commit SHA] [--write]

CHECKOUT is a clone of the repository that the rival's file here names (REPOSITORY), or a folder with the installed
package. FOLDER holds packages that its code imports and this project does not (faiss-cpu, opencv-python-headless, tifffile,
lightning). Prints the largest difference of everything that is compared, relative to the largest value. With --write, the
arrays become tests/golden/parity/RIVAL.npz, if the licence of the code allows it. tests/baselines/test_parity.py compares
with them. None of the public code is part of this project.
"""

import argparse
import importlib
import json
import sys
from pathlib import Path

import numpy as np
from compare import COMPARISONS, difference

GOLDEN = Path(__file__).parents[2] / "tests" / "golden" / "parity"
KEPT = ("Apache-2.0", "MIT")  # licences under which what the code computes is kept


def main() -> int:
    """Run one oracle, print the differences and write its arrays if asked; returns 1 where it may not be written."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("rival", choices=sorted(COMPARISONS))
    parser.add_argument("--code", type=Path, required=True)
    parser.add_argument("--site", type=Path)
    parser.add_argument("--commit", default="", help="of the checkout; or the version of the package")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    oracle = importlib.import_module(f"oracle_{arguments.rival}")
    sys.path += [str(path) for path in (arguments.code, arguments.site) if path is not None]
    arrays: dict[str, np.ndarray] = oracle.arrays(arguments.code)
    print(f"{arguments.rival}: {oracle.REPOSITORY} {arguments.commit}, licence: {oracle.LICENCE or 'none'}")
    for what, (own, theirs) in COMPARISONS[arguments.rival](arrays).items():
        print(f"  {what}: {difference(own, theirs):.1e}")
    if not arguments.write:
        return 0
    if oracle.LICENCE not in KEPT:
        print(f"{arguments.rival}: its code has no licence that allows to keep what it computes; nothing is written")
        return 1
    source = {"repository": oracle.REPOSITORY, "commit": arguments.commit, "licence": oracle.LICENCE}
    GOLDEN.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(GOLDEN / f"{arguments.rival}.npz", source=json.dumps(source), **arrays)
    return 0


if __name__ == "__main__":
    sys.exit(main())
