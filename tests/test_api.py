"""The Python interface gives the numbers of the stages, bit for bit, and takes pictures as paths, images and arrays."""

import doctest
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, TINY_ENCODER, picture, save, write_category, write_yaml
from PIL import Image

from foundad import api
from foundad.api import Detector, evaluate, results
from foundad.cells import Cell
from foundad.cli import main
from foundad.data.draws import Draw, read_draw
from foundad.data.given import picture_of
from foundad.data.manifest import Manifest, read_manifest
from foundad.detection.model import Model
from foundad.errors import UserError
from foundad.paths import Results
from foundad.plan.catalogue import load_one
from foundad.scores import Scores, read_scores
from foundad.sealed import read_parquet

METHODS = {
    "foundad": {"detector": "foundad", "training": {"steps": 3}, "projector": {"depth": 1, "width": 32}},
    "knn": {"detector": "knn"},
    "visionad": {"detector": "visionad", "scope": "category"},  # query views, one detector per category
    "fresh": {"base": "foundad", "training": {"pairs": "fresh"}},
}


class Study:
    """A study of two categories, each method fitted by the stages; sizes differ, and the encoder pads."""

    def __init__(self, folder: Path) -> None:
        self.config, self.results = folder / "config", Results(folder / "results")
        self.root = folder / "data"
        write_category(self.root / "bolt", 0, train=3, test=18)  # 36 test pictures: more than one batch of scores
        write_category(self.root / "cloth", 1000, train=3, test=3)
        save(picture(7, 64)[0][:40], self.root / "cloth/test/good/wide.png")
        dataset = {"title": "Tiny", "layout": "mvtec", "root": str(self.root), "licence": "CC0", "source": "drawn"}
        write_yaml(self.config / "datasets/tiny.yaml", dataset)
        write_yaml(self.config / "encoders/tiny.yaml", TINY_ENCODER | {"size_mode": "pad"})
        bank = {"bank": {"pairs": 20}}
        for name, values in METHODS.items():
            write_yaml(self.config / f"methods/{name}.yaml", {"title": name} | bank | values)
        self.stage("manifest", "tiny")
        self.stage("draw", "tiny", "--shots", "2", "--seed", "1")
        self.stage("masks", "tiny", "--side", "64")
        for view in ("as-is", "flip-horizontal", "flip-vertical"):
            self.stage("features", "tiny", "tiny", "--view", view)
        for name in METHODS:
            if name != "fresh":
                self.stage("bank", "tiny", "tiny", name, "--shots", "2", "--seed", "1")
            self.stage("fit", "tiny", "tiny", name, "--shots", "2", "--seed", "1")
            self.stage("evaluate", "tiny", "tiny", name, "--shots", "2", "--seed", "1")

    def stage(self, *arguments: str) -> None:
        places = ["--config", str(self.config), "--results", str(self.results.root)]
        device = [] if arguments[0] in ("manifest", "draw", "masks") else ["--device", "cpu"]
        assert main([*arguments, *places, *device]) == 0

    def cell(self, method: str) -> Cell:
        return Cell("tiny", "tiny", method, 2, 1)

    @property
    def manifest(self) -> Manifest:
        return read_manifest(self.results.manifest("tiny", "truth")).at(self.root)

    @property
    def draw(self) -> Draw:
        return read_draw(self.results.draw("tiny", 2, 1))

    def scores(self, method: str) -> Scores:
        path = self.results.cell(self.cell(method)) / "scores.safetensors"
        return read_scores(path, self.cell(method), [row.image_id for row in self.manifest.test])[0]


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Study:
    return Study(tmp_path_factory.mktemp("study"))


@pytest.mark.parametrize("method", METHODS)
def test_predictions_and_metrics_are_those_of_the_stages(method, study):
    rows, folder = study.manifest.test, study.results.cell(study.cell(method))
    paths, categories = [study.root / row.image_path for row in rows], [row.category for row in rows]
    found = Detector.load(folder, device="cpu").predict(paths, categories)
    stored = study.scores(method)
    np.testing.assert_array_equal(found.patch_scores, stored.patch_scores)
    np.testing.assert_array_equal(found.scores, stored.image_scores)
    np.testing.assert_array_equal(found.thresholds, stored.thresholds)
    np.testing.assert_array_equal(found.windows, stored.windows)
    assert found.names == list(map(str, paths))
    above = ["anomalous" if a else "normal" for a in stored.image_scores > stored.thresholds]
    assert found.verdicts == ["-" if method == "visionad" else word for word in above]  # ten pictures set no threshold
    assert found.map_of(0).shape == (48, 48)
    assert found.map_of(categories.index("cloth") + 3).shape[::-1] == found.sizes[categories.index("cloth") + 3]

    metrics = read_parquet(folder / "metrics.parquet", "metrics")[0].to_pylist()
    for category in ("bolt", "cloth"):
        chosen = [number for number, row in enumerate(rows) if row.category == category]
        masks = [rows[number].mask_path for number in chosen]
        values = evaluate(
            found.maps[chosen],
            [None if mask is None else study.root / mask for mask in masks],
            found.scores[chosen],
            thresholds=found.thresholds[chosen],
        )
        known = {row["metric"]: (row["value"], row["reason"]) for row in metrics if row["category"] == category}
        assert {name: (value.value, value.reason) for name, value in values.items()} == known


@pytest.mark.parametrize("method", METHODS)
def test_a_detector_fitted_here_is_the_model_of_the_cell(method, study, tmp_path, monkeypatch):
    draw = study.draw
    images = {
        name: [study.root / p for c, p in zip(draw.categories, draw.image_paths, strict=True) if c == name]
        for name in ("cloth", "bolt")  # in whatever order they are given
    }
    monkeypatch.chdir(study.config.parent)
    detector = Detector.fit(images, "tiny", method, "tiny", 1, device="cpu", batch_size=32)
    detector.save(tmp_path / "model.safetensors")
    here, cell = (Model.load(path / "model.safetensors") for path in (tmp_path, study.results.cell(study.cell(method))))
    assert here.thresholds == cell.thresholds
    arrays, wanted = dict(here._arrays()), dict(cell._arrays())
    assert arrays.keys() == wanted.keys()
    for name, array in wanted.items():
        np.testing.assert_array_equal(arrays[name], array)
    again = Detector.load(tmp_path / "model.safetensors", device="cpu")
    one = images["bolt"][0]
    np.testing.assert_array_equal(again.predict(one, "bolt").scores, detector.predict(one, "bolt").scores)


def test_paths_images_and_arrays_of_one_picture_have_one_score(study, tmp_path):
    detector = Detector.load(study.results.cell(study.cell("knn")), device="cpu")
    path = study.root / "bolt/test/spot/000.png"
    pixels = np.asarray(Image.open(path))
    turned = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels[:20]).save(turned, exif=exif)
    found = [detector.predict(given).scores[0] for given in (path, str(path), Image.open(path), pixels)]
    assert len(set(found)) == 1
    assert detector.predict([path, pixels]).names == [str(path), "picture 2"]
    assert picture_of(Image.open(turned)).size == picture_of(turned).size == (20, 48)
    assert detector.predict([]).scores.shape == (0,)
    grey = pixels[..., 0]
    assert detector.predict(grey).scores == detector.predict(grey.astype(np.uint16) * 257).scores


def test_pictures_that_cannot_be_scored_are_named(study, tmp_path):
    detector = Detector.load(study.results.cell(study.cell("visionad")), device="cpu")
    good, bad = study.root / "bolt/test/spot/000.png", tmp_path / "bad.png"
    bad.write_text("no picture")
    given = [bad, good, np.zeros((4, 4)), good]
    with pytest.raises(UserError, match=r"bad\.png: is not a readable picture.*\npicture 3: is float64 \[4, 4\]; give"):
        detector.predict(given, "bolt")
    found = detector.predict(given, "bolt", strict=False)
    assert found.names == [str(good)] * 2
    assert len(found.problems) == 2
    alone = detector.predict([good], "bolt")
    np.testing.assert_allclose(found.scores, [alone.scores[0]] * 2, rtol=1e-5)
    with pytest.raises(UserError, match="category 'nut': this model knows bolt, cloth"):
        detector.predict(good, "nut")
    with pytest.raises(UserError, match="category: 1 categories are given for 2 pictures"):
        detector.predict([good, good], ["bolt"])
    with pytest.raises(UserError, match="images: there are none"):
        Detector.fit([], load_one(study.config, "encoders", "tiny"), load_one(study.config, "methods", "knn"))


def test_maps_of_any_origin_are_evaluated():
    maps = np.zeros((3, 8, 8), np.float32)
    maps[0, :4], maps[1, 0, 0] = 1, 0.5
    mask = np.zeros((16, 16), np.uint8)
    mask[:8] = 255
    coarse = np.asarray(Image.fromarray(mask).resize((8, 8), Image.Resampling.NEAREST))
    found = evaluate(maps, [coarse, None, np.zeros((16, 16))])
    assert found["strict/p_auroc"].value == found["released/p_auroc"].value == 1.0
    assert "i_auroc" not in found
    found = evaluate(maps, None, np.array([3.0, 1.0, 2.0]), [1, 0, 1])
    assert found["i_auroc"].value == 1.0
    assert found["i_fpr"].value is None
    assert "no threshold" in found["i_fpr"].reason
    assert not any("/" in name for name in found)
    for arguments, line in (
        ((maps[0], None), "maps: have the shape"),
        ((maps, [None]), "masks: 1 are given for 3 maps"),
        ((maps, None), "masks and labels: give at least one"),
    ):
        with pytest.raises(UserError, match=line):
            evaluate(*arguments)


def test_the_example_of_evaluate_runs():
    found = doctest.testmod(api)
    assert found.attempted > 0
    assert found.failed == 0


def test_results_of_a_folder_are_a_table(tmp_path):
    with pytest.raises(UserError, match=r"metrics\.parquet: there is no such file; make it with: snakemake"):
        results(tmp_path)
    pd.DataFrame({"metric": ["i_auroc"], "value": [0.5]}).to_parquet(tmp_path / "metrics.parquet")
    assert results(tmp_path)["value"].tolist() == [0.5]


def test_the_import_is_light():
    heavy = ["torch", "timm", "pandas", "matplotlib", "scipy", "PIL", "pyarrow"]
    code = f"import sys, foundad, foundad.api; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
