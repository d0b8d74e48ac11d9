"""A study through the stages against its cells by themselves: wall time, and images that the encoder sees.

    OMP_NUM_THREADS=1 python benchmarks/study.py [--dataset textures] [--encoder efficientnet-lite0]

The study: 2 datasets x 2 encoders x 3 shots x 3 seeds x 4 projector variants. For one dataset and encoder the features, one
bank and one cell of two variants are measured and scaled to the 36 cells, 9 banks and one array of features there. The
straightforward way trains every cell on batches that are encoded anew and then encodes every test image anew, one by one;
the same two cells are measured and scaled to 36. Evaluation costs both the same and is counted in both.
"""

import argparse
import tempfile
from pathlib import Path

from cells import Workshop
from harness import Figures

from foundad.data.manifest import read_manifest
from foundad.paths import Cell

VARIANTS = ("foundad", "foundad-mlp6")
CELLS, BANKS = 36, 9


def main() -> None:
    """One line for wall time, one for images."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dataset", default="textures")
    parser.add_argument("--encoder", default="efficientnet-lite0")
    parser.add_argument("--anew", type=int, default=24, help="test images that are encoded anew, scaled to all")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        shop = Workshop(Path(folder))
        shop.prepare(options.dataset, 4, range(1))
        fresh = [shop.add_method(f"{name}-anew", base=name, training={"pairs": "fresh"}) for name in VARIANTS]
        cells = [Cell(options.dataset, options.encoder, name, 4, 0) for name in VARIANTS]
        alone = [Cell(options.dataset, options.encoder, name, 4, 0) for name in fresh]
        tests = len(read_manifest(shop.results.manifest(options.dataset)).test)
        with shop.counting():
            features = shop.stage("features", options.dataset, options.encoder)
            seen = shop.encoded
            assert seen == tests, f"{tests} test images, the encoder saw {seen}"
            bank = shop.bank(cells[0])
            in_bank = shop.encoded - seen
            fits = [shop.cell("fit", cell) for cell in cells]
            assert shop.encoded == seen + in_bank, "a fit encoded images"
            evaluation = shop.cell("evaluate", cells[0])
            before = shop.encoded
            anew = [shop.cell("fit", cell) for cell in alone]
            in_training = (shop.encoded - before) / len(alone)
            testing = shop.encode_anew(alone[0], options.anew)
    fit, training = sum(fits) / len(fits), sum(anew) / len(anew)
    ours = features + BANKS * bank + CELLS * (fit + evaluation)
    straightforward = CELLS * (training + testing + evaluation)
    parts = f"features {features:.1f}, bank {bank:.1f}, fit {fit:.1f}, evaluate {evaluation:.1f}"
    parts += f"; alone: training {training:.1f}, test images {testing:.1f}"
    where = f"{options.dataset}, {options.encoder}"
    figures = Figures("study", "seconds of processor time, images")
    figures.add(f"36 cells, {where}", ours, straightforward, None, "5 x", straightforward / ours, parts)
    seen_by_ours, seen_alone = tests + BANKS * in_bank, CELLS * (in_training + tests)
    note = f"every one of {tests} test images seen once"
    figures.add(f"images encoded, {where}", seen_by_ours, seen_alone, tests, note=note)
    figures.finish()


if __name__ == "__main__":
    main()
