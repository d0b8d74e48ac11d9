"""Compares a study run through the stages with its cells run alone: time, and the images that the encoder sees.

    OMP_NUM_THREADS=1 python benchmarks/study.py [--datasets elpv textures] [--encoders efficientnet-lite0 vit-small-224]

The study has 2 datasets x 2 encoders x 3 shots x 3 seeds x 4 projector variants. For every dataset and encoder, the
features, one bank and one cell of every named variant are measured, and scaled to its 36 cells, 9 banks and one array
of features. The straightforward way trains every cell on batches that are encoded anew, and then encodes every test
image anew, one by one; the same cells are measured and scaled to 36. Scoring and evaluation cost the same in both ways
and are counted in both. The encoder ``vit-small-224`` is DINOv3's ViT-S at 224 px with random weights.

The straightforward cells are our own with fresh pairs, which do not encode an undamaged input a second time. Plain
code, such as the released one, encodes all targets and all inputs. The time that this adds is the number of images
spared times the bare encoder's time for one; it has a line of its own.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import yaml
from cells import Workshop
from harness import Figures

from foundad.cells import Cell
from foundad.config.base import dump
from foundad.data.manifest import read_manifest
from foundad.device import Precision
from foundad.plan.catalogue import load_one

CELLS, BANKS = 36, 9


def compare(
    shop: Workshop, dataset: str, encoder: str, variants: Sequence[str], anew: int, figures: Figures
) -> tuple[float, float, float]:
    """Seconds of 36 cells: through the stages, alone, and alone with whole batches; adds lines for time and images."""
    cells = [Cell(dataset, encoder, name, 4, 0) for name in variants]
    alone = [Cell(dataset, encoder, f"{name}-anew", 4, 0) for name in variants]
    tests = len(read_manifest(shop.results.manifest(dataset)).test)
    begun = shop.encoded
    features = shop.stage("features", dataset, encoder)
    seen = shop.encoded - begun
    assert seen == tests, f"{tests} test images, the encoder saw {seen}"
    bank = shop.bank(cells[0])
    in_bank = shop.encoded - begun - seen
    fits = [shop.cell("fit", cell) for cell in cells]
    assert shop.encoded == begun + seen + in_bank, "a fit encoded images"
    evaluation = shop.cell("evaluate", cells[0])
    before = shop.encoded
    fresh = [shop.cell("fit", cell) for cell in alone]
    in_training = (shop.encoded - before) / len(alone)
    testing = shop.encode_anew(alone[0], anew)
    spared = sum(map(shop.spared_images, alone)) / len(alone)
    added = spared * shop.encoder_seconds(encoder, 8)
    fit, training = sum(fits) / len(fits), sum(fresh) / len(fresh)
    ours = features + BANKS * bank + CELLS * (fit + evaluation)
    straightforward = CELLS * (training + testing + evaluation)
    parts = f"features {features:.1f}, bank {bank:.1f}, fit {fit:.1f}, evaluate {evaluation:.1f}"
    parts += f"; alone: training {training:.1f}, test images {testing:.1f}"
    parts += f", {spared:.0f} images spared {added:.1f}"
    figures.add(f"36 cells, {dataset}, {encoder}", ours, straightforward, note=parts)
    note = f"every one of {tests} test images seen once"
    encoded = tests + BANKS * in_bank, CELLS * (in_training + tests)
    figures.add(f"images encoded, {dataset}, {encoder}", *encoded, tests, note=note)
    return ours, straightforward, straightforward + CELLS * added


def main() -> None:
    """Print two lines per dataset and encoder, and the sum."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--datasets", nargs="+", default=["elpv", "textures"])
    parser.add_argument("--encoders", nargs="+", default=["efficientnet-lite0", "vit-small-224"])
    parser.add_argument("--variants", nargs="+", default=["foundad", "foundad-mlp6"])
    parser.add_argument("--anew", type=int, default=24, help="test images that are encoded anew, scaled to all")
    parser.add_argument("--precision", choices=get_args(Precision), default="float32", help="precision of both ways")
    options = parser.parse_args()
    figures = Figures(f"study_{options.precision}", "seconds of processor time, images")
    with tempfile.TemporaryDirectory() as folder:
        shop = Workshop(Path(folder), precision=options.precision)
        small = dump(load_one(shop.config, "encoders", "dinov3-vits16")) | {"weights": "random", "image_size": 224}
        (shop.config / "encoders/vit-small-224.yaml").write_text(
            yaml.safe_dump({key: value for key, value in small.items() if key not in ("id", "parts")})
        )
        for name in options.variants:
            shop.add_method(f"{name}-anew", base=name, training={"pairs": "fresh"})
        for dataset in options.datasets:
            shop.prepare(dataset, 4, range(1))
        with shop.counting():
            found = [
                compare(shop, dataset, encoder, options.variants, options.anew, figures)
                for dataset in options.datasets
                for encoder in options.encoders
            ]
    ours, straightforward, whole = map(sum, zip(*found, strict=True))
    cells = f"{CELLS * len(found)} cells"
    figures.add(cells, ours, straightforward, None, "5 x", straightforward / ours)
    figures.add(f"{cells}, targets and inputs encoded whole", ours, whole)
    figures.finish()


if __name__ == "__main__":
    main()
