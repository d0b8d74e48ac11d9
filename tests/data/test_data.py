"""Manifests, draws and decoding: what is there is read rightly, what is broken is named, all at once."""

import io
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import picture, save, write_category
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from foundad.config.dataset import Dataset
from foundad.data.draws import draw, read_draw, write_draw
from foundad.data.images import decode, load_image, resize_square, to_rgb
from foundad.data.manifest import Manifest, Row, read_manifest, write_manifest
from foundad.data.masks import load_mask, resize_mask
from foundad.data.verify import build_manifest
from foundad.errors import UserError


def dataset(root: Path | None, **changes) -> Dataset:
    values = {"id": "tiny", "title": "Tiny", "layout": "mvtec", "licence": "CC0", "source": "drawn here"}
    return Dataset.model_validate(values | {"root": None if root is None else str(root)} | changes)


def test_a_manifest_lists_every_image_with_its_mask(dataset_root: Path, tmp_path: Path):
    manifest = build_manifest(dataset(dataset_root), threads=2)
    assert len(manifest.rows) == 2 * 13
    assert manifest.has_masks
    assert [row.image_id for row in manifest.rows] == sorted(row.image_id for row in manifest.rows)
    row = next(row for row in manifest.test if row.label)
    assert row.mask_path == f"bolt/ground_truth/spot/{Path(row.image_path).stem}_mask.png"
    assert (row.width, row.height, row.mode, row.defect) == (48, 48, "RGB", "spot")
    assert all(row.mask_path is None for row in manifest.rows if not row.label)
    write_manifest(manifest, tmp_path / "a.parquet")
    write_manifest(read_manifest(tmp_path / "a.parquet"), tmp_path / "b.parquet")
    assert read_manifest(tmp_path / "b.parquet") == manifest
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"root": "/no/such/folder"}, "key 'root': there is no folder /no/such/folder"),
        ({"root": "$SURELY_NOT_SET/x"}, "is not set"),
        ({"categories": ["bolt", "nut"]}, "category 'nut' has no readable normal images"),
    ],
)
def test_missing_folders_are_named(dataset_root: Path, changes, message):
    with pytest.raises(UserError, match=r"there is no folder|nut") as error:
        build_manifest(dataset(**{"root": dataset_root} | changes))
    assert message in str(error.value)


def test_categories_may_lie_anywhere_below_the_root(dataset_root: Path):
    (dataset_root / "deep").mkdir()
    (dataset_root / "bolt").rename(dataset_root / "deep" / "b")
    manifest = build_manifest(dataset(dataset_root, categories={"screw": "deep/b", "cloth": "cloth"}))
    assert {row.category for row in manifest.rows} == {"screw", "cloth"}


def test_a_folder_of_ones_own_pictures(tmp_path: Path):
    write_category(tmp_path)
    for path in (tmp_path / "train/good").iterdir():
        path.rename(tmp_path / "train" / path.name)
    manifest = build_manifest(dataset(tmp_path, layout="folder"))
    assert {row.category for row in manifest.rows} == {"tiny"}
    assert len(manifest.train) == 5


def test_elpv_has_the_cells_its_package_lists():
    manifest = build_manifest(dataset(None, id="elpv", layout="elpv", categories=["mono", "poly"]), threads=2)
    counts = Counter((row.category, row.label) for row in manifest.test)
    assert len(counts) == 4
    assert set(counts.values()) == {100}
    assert not manifest.has_masks
    assert len(manifest.train) == 1508 - 200
    assert manifest.notes == ["401 images with a defect probability between 0 and 1 are left out"]
    assert not {row.sha256 for row in manifest.train} & {row.sha256 for row in manifest.test}


def manifest_of(names: dict[str, list[str]]) -> Manifest:
    rows = [
        Row(f"{c}/train/good/{n}", c, "train", 0, "good", f"{c}/{n}", None, f"hash of {c} {n}", 1, 1, "L")
        for c, numbers in names.items()
        for n in numbers
    ]
    return Manifest("set", False, [], rows)


@given(st.permutations([f"{n:02}" for n in range(12)]), st.integers(0, 5))
def test_draws_are_nested_and_know_no_order_and_no_other_category(names, seed):
    alone, both = manifest_of({"a": names}), manifest_of({"b": names, "a": sorted(names)})
    drawn = {shots: draw(alone, shots, seed).image_paths for shots in (1, 2, 4, 8)}
    for shots, paths in drawn.items():
        assert paths == drawn[8][:shots]
        assert draw(both, shots, seed).image_paths[:shots] == paths


def test_seeds_draw_different_images_and_files_are_deterministic(tmp_path: Path):
    manifest = manifest_of({"a": [f"{n:02}" for n in range(20)], "b": [f"{n:02}" for n in range(20)]})
    assert len({draw(manifest, 4, seed).hash for seed in range(8)}) == 8
    first = draw(manifest, 4, 3)
    write_draw(first, tmp_path / "a.parquet")
    write_draw(read_draw(tmp_path / "a.parquet"), tmp_path / "b.parquet")
    assert read_draw(tmp_path / "b.parquet") == first
    assert list(pd.read_parquet(tmp_path / "a.parquet")) == ["category", "image_id", "image_path", "sha256"]
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    with pytest.raises(UserError, match="21 shots are more than the 20 normal images of category 'a'"):
        draw(manifest, 21, 0)


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def test_every_mode_becomes_rgb_by_the_stated_rule(tmp_path: Path):
    grey = np.array([[0, 257], [257 * 100, 65535]], np.uint16)
    wide = to_rgb(decode(encoded(Image.fromarray(grey), "PNG"), tmp_path))
    assert np.asarray(wide)[..., 1].tolist() == [[0, 1], [100, 255]]
    palette = Image.fromarray(np.array([[[255, 0, 0], [0, 0, 255]]], np.uint8)).quantize(2)
    assert np.asarray(to_rgb(decode(encoded(palette, "PNG"), tmp_path))).tolist() == [[[255, 0, 0], [0, 0, 255]]]
    alpha = Image.fromarray(np.array([[[200, 100, 50, 255], [200, 100, 50, 0]]], np.uint8), "RGBA")
    assert np.asarray(to_rgb(decode(encoded(alpha, "PNG"), tmp_path))).tolist() == [[[200, 100, 50], [0, 0, 0]]]
    cmyk = Image.new("CMYK", (4, 4), (0, 0, 0, 255))
    assert np.asarray(to_rgb(decode(encoded(cmyk, "JPEG"), tmp_path))).max() < 10


def test_exif_orientation_is_applied(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise
    path = tmp_path / "turned.jpg"
    path.write_bytes(encoded(Image.new("RGB", (20, 10)), "JPEG", exif=exif))
    assert load_image(path).size == (10, 20)


def test_masks_are_one_wherever_a_colour_is_not_zero(tmp_path: Path):
    for name, array in {
        "label.png": np.array([[0, 1], [3, 255]], np.uint8),
        "rgb.png": np.array([[[0, 0, 0], [1, 0, 0]], [[0, 0, 9], [255, 255, 255]]], np.uint8),
        "wide.png": np.array([[0, 1], [300, 65535]], np.uint16),
    }.items():
        assert load_mask(save(array, tmp_path / name)).tolist() == [[0, 1], [1, 1]]


def test_resizing():
    image = Image.fromarray(picture(0, 60)[0])
    assert resize_square(image, 32, "bilinear").shape == (32, 32, 3)
    mask = np.kron(np.eye(4, dtype=np.uint8), np.ones((3, 3), np.uint8))
    assert resize_mask(mask, 4).tolist() == np.eye(4).tolist()
    assert resize_mask(mask, 12).tolist() == mask.tolist()
