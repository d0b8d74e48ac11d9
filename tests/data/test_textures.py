"""The embedded dataset: deterministic, train and test apart, every defect with its mask."""

import hashlib

import numpy as np
import pytest

from foundad.config.dataset import Dataset
from foundad.data.images import load_image
from foundad.data.masks import load_mask
from foundad.data.textures import (
    IMAGES_A_DEFECT,
    NORMAL_TEST_IMAGES,
    PAINTERS,
    PHOTOGRAPHS,
    TRAIN_IMAGES,
    write_textures,
)
from foundad.data.verify import build_manifest


def digest(root) -> str:
    lines = [f"{p.relative_to(root)} {hashlib.sha256(p.read_bytes()).hexdigest()}" for p in sorted(root.rglob("*.*"))]
    return "\n".join(lines)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "textures"
    write_textures(folder)
    return folder


def test_the_files_are_the_same_every_time(root, tmp_path):
    write_textures(tmp_path / "again")
    write_textures(tmp_path / "again")  # replaces what is there
    assert digest(tmp_path / "again") == digest(root)


def test_every_category_is_whole_and_verified(root):
    values = {"id": "textures", "title": "x", "layout": "mvtec", "root": str(root), "licence": "x", "source": "x"}
    manifest = build_manifest(Dataset.model_validate(values), threads=2)
    assert {row.category for row in manifest.rows} == set(PHOTOGRAPHS)
    assert len(manifest.train) == TRAIN_IMAGES * len(PHOTOGRAPHS)
    assert len(manifest.test) == (NORMAL_TEST_IMAGES + IMAGES_A_DEFECT * len(PAINTERS)) * len(PHOTOGRAPHS)


@pytest.mark.parametrize("defect", PAINTERS)
def test_defects_differ_in_size(root, defect):
    areas = [load_mask(path).mean() for path in sorted(root.glob(f"*/ground_truth/{defect}/*.png"))]
    assert len(areas) == IMAGES_A_DEFECT * len(PHOTOGRAPHS)
    assert min(areas) > 0
    assert max(areas) > 2 * min(areas)
    assert max(areas) < 0.4


def test_pictures_are_not_flat(root):
    for path in root.glob("*/test/*/000.png"):
        assert np.asarray(load_image(path)).std() > 5
