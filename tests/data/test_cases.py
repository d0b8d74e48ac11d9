"""Data sets as people really have them, each with one oddity: read rightly, or one line says what lies there."""

import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import picture, save, write_category
from PIL import Image
from test_layouts import dataset

from foundad.data import images
from foundad.data.check import check
from foundad.data.images import decode, load_image
from foundad.data.ledger import ledger_of, manifest_notes, write_ledger
from foundad.data.manifest import Manifest, read_manifest, write_manifest
from foundad.data.masks import load_mask
from foundad.data.verify import build_manifest
from foundad.errors import BrokenFile, UserError
from foundad.metrics.category import Category, evaluate_category
from foundad.metrics.masks import find_defects

Harm = Callable[[Path], object]


def each_mask(change: Callable[[np.ndarray, Path], object]) -> Harm:
    def harm(folder: Path) -> None:
        for path in sorted((folder / "ground_truth/spot").iterdir()):
            change(np.asarray(Image.open(path)), path)

    return harm


def moved(old: str, new: str) -> Harm:
    def harm(folder: Path) -> None:
        (folder / new).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(folder / old, folder / new)

    return harm


def renamed(ending: str) -> Harm:
    return each_mask(lambda _, path: path.rename(path.with_name(path.name.replace("_mask", ending))))


def pictures_into(old: str, new: str, number: int = 9) -> Harm:
    def harm(folder: Path) -> None:
        (folder / new).mkdir(parents=True)
        for path in sorted(p for p in (folder / old).iterdir() if p.is_file())[:number]:
            path.rename(folder / new / f"n{path.name}")

    return harm


def wide(change: Callable[[np.ndarray], np.ndarray], suffix: str) -> Harm:
    def harm(folder: Path) -> None:
        for path in [*folder.glob("train/*/*"), *folder.glob("test/*/*")]:
            pixels = np.asarray(Image.open(path).convert("L"))
            path.unlink()
            Image.fromarray(change(pixels)).save(path.with_suffix(suffix))

    return harm


def latin(folder: Path) -> None:
    path = folder / "test/good/000.png"
    os.rename(path, os.fsencode(folder / "test/good") + b"/bild_\xfc.png")


def masks_of(root: Path, manifest: Manifest) -> list[list]:
    return [load_mask(root / row.mask_path).tolist() for row in manifest.test if row.mask_path]


# what is odd: (what happens, part of the line of the error)
REFUSED: dict[str, tuple[Harm, str]] = {
    "masks called _GT": (renamed("_GT"), "are masks and none belongs to an image"),
    "masks called -mask": (renamed("-mask"), "are masks and none belongs to an image"),
    "masks called _Mask": (renamed("_Mask"), "are masks and none belongs to an image"),
    "masks in GroundTruth": (moved("ground_truth", "GroundTruth"), "are masks and none belongs to an image"),
    "masks in ground-truth": (moved("ground_truth", "ground-truth"), "are masks and none belongs to an image"),
    "masks in masks": (moved("ground_truth", "masks"), "are masks and none belongs to an image"),
    "masks in another case": (
        moved("ground_truth/spot", "ground_truth/Spot"),
        "are masks and none belongs to an image",
    ),
    "test/Good beside test/good": (pictures_into("test/good", "test/Good", 2), "look like normal images"),
    "test/normal": (moved("test/good", "test/normal"), "look like normal images"),
    "test/OK": (moved("test/good", "test/OK"), "look like normal images"),
    "train/OK": (
        moved("train/good", "train/OK"),
        "looked in train/good and train/ok; found instead: cat/train/OK (5 files)",
    ),
    "train/good/cam1": (pictures_into("train/good", "train/good/cam1"), "found instead: cat/train/good/cam1 (5 files)"),
    "test/spot/cam2": (pictures_into("test/spot", "test/spot/cam2", 3), "3 files are nested deeper than test/spot"),
    "pictures beside test/good": (moved("test/good/000.png", "test/x.png"), "lie beside the folders of test/"),
    "Test": (moved("test", "Test"), "lie in 'Test', the layout reads 'test'"),
    "float pictures": (wide(lambda a: (a / 255).astype(np.float32), ".tif"), "holds floating-point numbers (mode F)"),
    "32-bit pictures": (wide(lambda a: a.astype(np.int32), ".tif"), "holds 32-bit integers (mode I)"),
    "a name in Latin-1": (latin, "bild_\\xfc.png: its path or its mask's path is not in UTF-8"),
    "a very large picture": (
        lambda folder: Image.new("L", (20000, 10000), 90).save(folder / "test/good/099.png"),
        "has 200000000 pixels (20000x10000), the limit is 89478485; raise the dataset's key max_pixels",
    ),
    "an EPS called .png": (
        lambda folder: (folder / "test/good/000.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
        "000.png: is not a readable picture",
    ),
}


def category(tmp_path: Path) -> Path:
    write_category(tmp_path / "data/cat", 0)
    return tmp_path / "data"


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_be_dropped_is_a_line(case, tmp_path):
    root = category(tmp_path)
    harm, message = REFUSED[case]
    harm(root / "cat")
    with pytest.raises(UserError) as error:
        build_manifest(dataset(root, "mvtec"))
    assert message in str(error.value)


def test_the_key_raises_the_limit(tmp_path):
    root = category(tmp_path)
    Image.new("L", (300, 200), 9).save(root / "cat/test/good/099.png")
    with pytest.raises(UserError, match="the limit is 59999; raise the dataset's key max_pixels"):
        build_manifest(dataset(root, "mvtec", max_pixels=59_999))
    assert len(build_manifest(dataset(root, "mvtec", max_pixels=60_000)).test) == 9


@pytest.mark.parametrize(
    "drawn",
    [
        lambda a: np.dstack([np.full_like(a, 255)] * 3 + [a]),  # white everywhere, the defect is opaque
        lambda a: np.dstack([a * 0] * 3 + [a]),  # black ink on transparent ground
        lambda a: np.dstack([a] * 3 + [np.full_like(a, 255)]),  # opaque everywhere
        lambda a: np.dstack([a] * 3 + [a // 2 + 127]),  # white on translucent black
    ],
)
def test_transparent_parts_of_a_mask_are_ground(drawn, tmp_path):
    root = category(tmp_path)
    settings = dataset(root, "mvtec")
    plain = masks_of(root, build_manifest(settings))
    each_mask(lambda a, path: save(drawn(a), path))(root / "cat")
    assert masks_of(root, build_manifest(settings)) == plain


# what is odd: (what happens, part of a line of data check)
REMARKED: dict[str, tuple[Harm, str]] = {
    "inverted masks": (
        each_mask(lambda a, p: save(255 - a, p)),
        "4 masks cover more than half of their picture (up to 94%)",
    ),
    "masks as JPEG": (
        each_mask(lambda a, p: (Image.fromarray(a).save(p.with_suffix(".jpg"), quality=75), p.unlink())),
        "4 masks hold more than two values",
    ),
    "a mask without image": (
        lambda folder: shutil.copy(
            folder / "ground_truth/spot/000_mask.png", folder / "ground_truth/spot/777_mask.png"
        ),
        "1 left out, a mask without an image: cat/ground_truth/spot/777_mask.png",
    ),
    "12 bits in 16": (wide(lambda a: a.astype(np.uint16) * 16, ".png"), "hence hold 12 bits at most"),
    "another suffix": (lambda folder: (folder / "test/good/a.gif").touch(), "1 left out, unknown suffix .gif"),
    "hidden files": (lambda folder: (folder / ".DS_Store").touch(), "1 left out, hidden: cat/.DS_Store"),
    "a heatmap": (
        lambda folder: save(picture(1)[0], folder / "test/good/000_anomaly.png"),
        "1 left out, a heatmap of foundad predict",
    ),
    "links in a circle": (lambda folder: (folder / "test/loop").symlink_to(folder), "files: "),
    "no normal test image": (lambda folder: shutil.rmtree(folder / "test/good"), "cat has no normal test image"),
}


@pytest.mark.parametrize("case", REMARKED)
def test_what_is_odd_is_a_line_of_data_check(case, tmp_path, capsys):
    root = category(tmp_path)
    harm, message = REMARKED[case]
    harm(root / "cat")
    assert check(dataset(root, "mvtec")) == 0
    shown = capsys.readouterr().out
    assert message in shown
    numbers = [
        int(word)
        for line in shown.splitlines()
        if line.startswith("files: ")
        for word in line.split()
        if word.isdigit()
    ]
    assert numbers[0] == numbers[1] + numbers[2]


def test_a_system_file_among_the_parts_of_a_mask_is_ignored(tmp_path):
    root = category(tmp_path)
    settings = dataset(root, "mvtec")
    plain = masks_of(root, build_manifest(settings))
    for path in sorted((root / "cat/ground_truth/spot").iterdir()):
        parts = path.with_name(path.stem.removesuffix("_mask"))
        parts.mkdir()
        path.rename(parts / "000.png")
        (parts / "Thumbs.db").write_bytes(b"x")
    manifest = build_manifest(settings)
    assert masks_of(root, manifest) == plain
    assert [(kind.reason, kind.count) for kind in manifest.ledger.left_out] == [("a file of the operating system", 4)]


def test_a_picture_shared_by_two_categories(tmp_path):
    write_category(tmp_path / "a", 0)
    write_category(tmp_path / "b", 1000)
    shutil.copy(tmp_path / "a/train/good/000.png", tmp_path / "b/test/good/000.png")
    with pytest.raises(UserError, match=r"leakage\) of two categories"):
        build_manifest(dataset(tmp_path, "mvtec"))
    assert len(build_manifest(dataset(tmp_path, "mvtec", strict=False)).train) == 9
    shutil.copy(tmp_path / "a/test/good/000.png", tmp_path / "b/test/good/000.png")
    assert build_manifest(dataset(tmp_path, "mvtec")).notes == ["1 pictures are in several categories of one split"]


def test_a_broken_exif_block_is_passed_over(tmp_path):
    pixels = Image.fromarray(picture(0)[0])
    pixels.save(tmp_path / "a.webp", lossless=True, exif=b"Exif\x00\x00garbage!garbage!")
    assert np.array_equal(np.asarray(load_image(tmp_path / "a.webp")), np.asarray(pixels))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_applied(orientation):
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (16, 24, 3)).astype(np.uint8)).save(out, "PNG", exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(out.getvalue())))
    assert np.array_equal(np.asarray(decode(out.getvalue(), Path("a.png"))), np.asarray(expected))


def test_a_stray_file_changes_the_ledger_and_no_byte_of_the_manifest(tmp_path):
    root = category(tmp_path)
    settings, path = dataset(root, "mvtec"), tmp_path / "cat.parquet"

    def write() -> None:
        manifest = build_manifest(settings)
        write_manifest(manifest, path)
        write_ledger(manifest.ledger, path)

    write()
    before, ledger = path.read_bytes(), ledger_of(path).read_bytes()
    (root / "README.md").write_text("hello")
    write()
    assert path.read_bytes() == before
    assert ledger_of(path).read_bytes() != ledger
    ledger_of(path).write_text("{")
    with pytest.raises(BrokenFile, match=r"cat\.ledger\.json"):
        manifest_notes(path)


def test_an_edited_mask_changes_the_manifest(tmp_path):
    root = category(tmp_path)
    settings, memory = dataset(root, "mvtec"), tmp_path / "checked.json"
    write_manifest(build_manifest(settings, checked=memory), tmp_path / "a.parquet")
    row = next(row for row in read_manifest(tmp_path / "a.parquet").test if row.mask_path)
    save(np.full((48, 48), 255, np.uint8), root / row.mask_path)
    changed = build_manifest(settings, checked=memory)
    assert next(r for r in changed.test if r.image_id == row.image_id).mask_sha256 != row.mask_sha256
    assert build_manifest(settings, checked=memory) == changed == build_manifest(settings)


def test_defects_that_vanish_make_no_image_normal(tmp_path, capsys):
    """Two large and three tiny defects, perfectly found: AUPIMO is 1, and every pixel metric says what it did not see."""
    masks = np.zeros((7, 128, 128), np.uint8)
    masks[:2, 20:60, 20:60] = 1
    masks[2:5, 1, 1] = 1  # between the samples of a 32-pixel grid
    labels = np.array([1, 1, 1, 1, 1, 0, 0])
    scores = masks[:, ::4, ::4].astype(np.float32)
    scores[2:5, 0, 0] = 5
    loaded = [mask if label else None for mask, label in zip(masks, labels, strict=True)]
    values = evaluate_category(Category(scores.max((1, 2)), labels, scores, find_defects(loaded, (32, 32))))
    found = {value.metric: value for value in values}
    assert found["strict/aupimo"].value == 1.0
    assert found["strict/aupimo"].reason == "3 of 5 defects have no pixel at 32 x 32"
    assert found["i_auroc"].reason is None


def test_data_check_says_which_defects_vanish(tmp_path, capsys):
    for number in range(2):
        for part in ("train/good", "test/good", "test/spot"):
            save(
                picture(1000 * len(part) + 7 * ("spot" in part) + number, 1024)[0],
                tmp_path / f"cat/{part}/{number}.png",
            )
        mask = np.zeros((1024, 1024), np.uint8)
        mask[400:402, 400:402] = 255
        save(mask, tmp_path / f"cat/ground_truth/spot/{number}_mask.png")
    check(dataset(tmp_path, "mvtec"))
    assert "2 of 2 defects have no pixel at 256 x 256" in capsys.readouterr().out


def test_another_delimiter_is_named(tmp_path):
    (tmp_path / "images.csv").write_text("image;split;label\na.png;train;0\n")
    with pytest.raises(UserError, match="';' separates its columns"):
        build_manifest(dataset(tmp_path, "table"))


@pytest.mark.parametrize("kind", ["GIF", "DDS", "TGA", "PPM", "ICO"])
def test_only_the_formats_we_name_are_decoded(kind, tmp_path):
    out = io.BytesIO()
    Image.fromarray(picture(0)[0]).save(out, kind)
    with pytest.raises(UserError, match="is not a readable picture"):
        images.decode(out.getvalue(), tmp_path / "a.png")
