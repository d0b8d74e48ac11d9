"""Kinds of damage that datasets suffer, each built into a miniature of its layout: one line that names file and cure.

``DAMAGE`` is the list. Archives have theirs in test_get.py, lists of draws in test_layouts.py.
"""

import csv
import json
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import save, write_category
from PIL import Image
from test_layouts import LAYOUTS, dataset, image, mask

from foundad.data.check import check
from foundad.data.verify import build_manifest
from foundad.errors import UserError

Harm = Callable[[Path], object]


def two_categories(root: Path) -> None:
    write_category(root / "bolt", 0)
    write_category(root / "cloth", 1000)


def own_pictures(root: Path) -> None:
    write_category(root, 0)


MINIATURES = {name: (layout, build, keys) for name, (layout, build, keys, *_) in LAYOUTS.items()}
MINIATURES |= {
    "tiny": ("mvtec", two_categories, {"categories": ["bolt", "cloth"]}),
    "own": ("folder", own_pictures, {}),
}


def remove(path: str) -> Harm:
    return lambda root: shutil.rmtree(root / path) if (root / path).is_dir() else (root / path).unlink()


def write(path: str, data: bytes) -> Harm:
    return lambda root: (root / path).write_bytes(data)


def cut(path: str) -> Harm:
    return lambda root: (root / path).write_bytes((root / path).read_bytes()[: (root / path).stat().st_size // 2])


def flip(path: str) -> Harm:
    """One bit of the compressed pixels."""

    def harm(root: Path) -> None:
        data = bytearray((root / path).read_bytes())
        data[len(data) // 2] ^= 1
        (root / path).write_bytes(data)

    return harm


def copy(path: str, to: str) -> Harm:
    return lambda root: shutil.copy(root / path, root / to)


def edit(path: str, old: str, new: str) -> Harm:
    def harm(root: Path) -> None:
        text = (root / path).read_text()
        assert old in text
        (root / path).write_text(text.replace(old, new, 1))

    return harm


def rows(path: str, change: Callable[[list[list[str]]], object]) -> Harm:
    """Change the rows of a CSV, header first."""

    def harm(root: Path) -> None:
        with (root / path).open(newline="") as file:
            found = list(csv.reader(file))
        change(found)
        with (root / path).open("w", newline="") as file:
            csv.writer(file).writerows(found)

    return harm


def listed(change: Callable[[dict], object]) -> Harm:
    """Change the list of Real-IAD."""

    def harm(root: Path) -> None:
        path = root / "realiad_jsons/audiojack.json"
        found = json.loads(path.read_text())
        change(found)
        path.write_text(json.dumps(found))

    return harm


def huge_picture(root: Path) -> None:
    """A PNG of a hundred bytes that claims 60,000 x 60,000 pixels."""

    def part(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = part(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    data = b"\x89PNG\r\n\x1a\n" + header + part(b"IDAT", zlib.compress(b"")) + part(b"IEND", b"")
    (root / "bolt/train/good/000.png").write_bytes(data)


def turned_picture(root: Path) -> None:
    """A photograph that its camera turned, and a mask that was drawn on the pixels as they are stored."""
    exif = Image.Exif()
    exif[0x0112] = 6
    path = root / "bolt/test/spot/002.jpg"
    (root / "bolt/test/spot/002.png").unlink()
    Image.fromarray(np.random.default_rng(5).integers(0, 255, (48, 40, 3)).astype(np.uint8)).save(path, exif=exif)
    save(np.full((48, 40), 255, np.uint8), root / "bolt/ground_truth/spot/002_mask.png")


SPOT, TRUTH = "bolt/test/spot", "bolt/ground_truth/spot"
VISA, NORMAL, ANOMALY = "split_csv/1cls.csv", "candle/Data/Images/Normal", "candle/Data/Images/Anomaly"
MASKS = "candle/Data/Masks/Anomaly"
LOGICAL, PUBLIC = "breakfast_box/ground_truth/logical_anomalies", "vial/test_public/ground_truth/bad"
JACK = "realiad_1024/audiojack"

# what it is: (miniature, what happens to it, part of the line)
DAMAGE: dict[str, tuple[str, Harm, str]] = {
    # files
    "an image cut off": ("tiny", cut(f"{SPOT}/001.png"), "spot/001.png: is damaged"),
    "an image with a flipped bit": ("tiny", flip(f"{SPOT}/001.png"), "spot/001.png: is damaged"),
    "a mask cut off": ("tiny", cut(f"{TRUTH}/001_mask.png"), "001_mask.png: is damaged"),
    "text in place of an image": (
        "tiny",
        write("bolt/train/good/000.png", b"hello"),
        "000.png: is not a readable picture",
    ),
    "a web page in place of an image": (
        "mvtec",
        write("01/test/crack/003.png", b"<html>"),
        "is not a readable picture",
    ),
    "an empty image file": ("tiny", write("bolt/train/good/000.png", b""), "000.png: is not a readable picture"),
    "an empty mask file": ("tiny", write(f"{TRUTH}/001_mask.png", b""), "001_mask.png: is not a readable picture"),
    "a picture that claims 3.6 gigapixels": (
        "tiny",
        huge_picture,
        "has 3600000000 pixels (60000x60000), the limit is 89478485; raise the dataset's key max_pixels",
    ),
    "a folder with the name of an image": (
        "tiny",
        lambda root: (root / f"{SPOT}/900.png").mkdir(),
        "900.png: cannot be read: Is a directory",
    ),
    "a dangling link": (
        "tiny",
        lambda root: (root / "bolt/train/good/link.png").symlink_to(root / "nowhere.png"),
        "link.png: cannot be read: No such file or directory",
    ),
    # images and masks
    "a mask of another size": (
        "tiny",
        lambda root: save(np.full((30, 48), 255, np.uint8), root / f"{TRUTH}/002_mask.png"),
        "002_mask.png: is 48x30, its image 002.png is 48x48; replace it",
    ),
    "a mask drawn on a photograph before it was turned": (
        "tiny",
        turned_picture,
        "002_mask.png: is 40x48, its image 002.jpg is 48x40",
    ),
    "an empty mask": (
        "tiny",
        lambda root: save(np.zeros((48, 48), np.uint8), root / f"{TRUTH}/002_mask.png"),
        "002_mask.png: is empty, its image shows the defect 'spot'; replace or remove both",
    ),
    "no mask": ("tiny", remove(f"{TRUTH}/003_mask.png"), "003.png: shows the defect 'spot' and has no mask; add one"),
    "two masks of one image": (
        "tiny",
        copy(f"{TRUTH}/001_mask.png", f"{TRUTH}/001.png"),
        "001_mask.png: 001.png is a mask of the same image; remove one",
    ),
    "two images of one name": (
        "tiny",
        lambda root: image(root / "bolt/test/good/001.jpg"),
        "001.png: has the same id as bolt/test/good/001.jpg (bolt/test/good/001); rename or remove one",
    ),
    # splits
    "an image twice in train": (
        "tiny",
        copy("bolt/train/good/000.png", "bolt/train/good/900.png"),
        "the same picture as bolt/train/good/000.png, twice in train; remove one",
    ),
    "an image twice in test": (
        "tiny",
        copy(f"{SPOT}/000.png", "bolt/test/good/900.png"),
        "the same picture as bolt/test/good/900.png, twice in test; remove one",
    ),
    "an image in train and test": (
        "tiny",
        copy("bolt/train/good/000.png", "bolt/test/good/900.png"),
        "in train and test (leakage); remove one",
    ),
    "no normal images": ("tiny", remove("bolt/train/good"), "bolt: category 'bolt' has no readable normal images"),
    "no test images": ("tiny", remove("bolt/test"), "bolt: category 'bolt' has no readable test images"),
    "an empty root": ("mvtec", lambda root: [shutil.rmtree(path) for path in root.iterdir()], "holds no category in"),
    "one's own folder without train": ("own", remove("train"), "category 'mini' has no readable normal images"),
    "one's own folder without test": ("own", remove("test"), "category 'mini' has no readable test images"),
    # BTAD, LOCO, MVTec AD 2
    "btad: no mask": ("btad", remove("01/ground_truth/ko/002.png"), "002.bmp: shows the defect 'ko' and has no mask"),
    "loco: an empty folder of masks": ("loco", remove(f"{LOGICAL}/000/000.png"), "it holds 0 pictures"),
    "loco: masks of two sizes": (
        "loco",
        lambda root: mask(root / f"{LOGICAL}/000/001.png", size=9),
        "must hold masks of one size",
    ),
    "mvtec ad 2: no mask": ("mvtec-ad-2", remove(f"{PUBLIC}/000_overexposed_mask.png"), "has no mask; add one"),
    # VisA
    "visa: no list": ("visa", remove(VISA), "1cls.csv: cannot be read: No such file or directory; check the key root"),
    "visa: an empty list": ("visa", write(VISA, b""), "1cls.csv: has no column object, split, label, image, mask"),
    "visa: a list without a column": ("visa", edit(VISA, "object,split", "thing,split"), "has no column object"),
    "visa: a list in another encoding": ("visa", write(VISA, b"object\xff\xfe,"), "1cls.csv: is not a CSV in UTF-8"),
    "visa: another split": ("visa", edit(VISA, ",train,", ",training,"), "1cls.csv: line 2: split 'training'"),
    "visa: anomalous and in train": ("visa", edit(VISA, "test,anomaly", "train,anomaly"), "line 3: an anomalous image"),
    "visa: a line cut off": (
        "visa",
        rows(VISA, lambda found: found[2].__delitem__(slice(3, None))),
        "1cls.csv: line 3: '' is not a path below the root",
    ),
    "visa: a path out of the root": (
        "visa",
        rows(VISA, lambda found: found[2].__setitem__(3, "../elsewhere.JPG")),
        "1cls.csv: line 3: '../elsewhere.JPG' is not a path below the root",
    ),
    "visa: a listed image is missing": ("visa", remove(f"{NORMAL}/000.JPG"), "000.JPG: cannot be read: No such file"),
    "visa: a listed mask is missing": ("visa", remove(f"{MASKS}/001.png"), "001.png: cannot be read: No such file"),
    "visa: no mask is listed": (
        "visa",
        rows(VISA, lambda found: found[2].__setitem__(4, "")),
        "000.JPG: shows the defect 'anomaly' and has no mask",
    ),
    "visa: an empty mask": ("visa", lambda root: mask(root / f"{MASKS}/001.png", empty=True), "001.png: is empty"),
    "visa: a mask of another size": ("visa", lambda root: mask(root / f"{MASKS}/001.png", size=20), "is 20x20"),
    "visa: an image is listed twice": (
        "visa",
        rows(VISA, lambda found: found.append(found[-1])),
        "has the same id as candle/Data/Images/Anomaly/003.JPG (candle/test/anomaly/003); rename or remove one",
    ),
    # magnetic tiles, KolektorSDD
    "mtd: no mask": (
        "mtd",
        remove("MT_Fray/Imgs/exp1_num_0.png"),
        "exp1_num_0.jpg: shows the defect 'fray' and has no",
    ),
    "mtd: no normal images": ("mtd", remove("MT_Free"), "category 'magnetic_tile' has no readable normal images"),
    "mtd: not the set": (
        "mtd",
        lambda root: [shutil.rmtree(path) for path in root.iterdir()],
        "holds no category in the layout 'mtd'; check root and layout",
    ),
    "kolektor: no label": ("kolektor", remove("kos03/Part1_label.bmp"), "has no Part1_label.bmp beside it"),
    "kolektor: a broken label": (
        "kolektor",
        write("kos03/Part1_label.bmp", b"BM"),
        "Part1_label.bmp: is not a readable picture",
    ),
    # Real-IAD
    "real-iad: a broken list": ("real-iad", write("realiad_jsons/audiojack.json", b"{"), "is not a list of Real-IAD"),
    "real-iad: a list without test": ("real-iad", listed(lambda found: found.pop("test")), "meta, train and test"),
    "real-iad: no meta": ("real-iad", listed(lambda found: found.update(meta=3)), "is not a list of Real-IAD"),
    "real-iad: a row without a path": (
        "real-iad",
        listed(lambda found: found["test"][1].pop("image_path")),
        "audiojack.json: row 1 of test: '' is not a path below the root",
    ),
    "real-iad: a row without a class": (
        "real-iad",
        listed(lambda found: found["test"][1].pop("anomaly_class")),
        "audiojack.json: row 1 of test: has no anomaly_class",
    ),
    "real-iad: an absolute path": (
        "real-iad",
        listed(lambda found: found["test"][1].update(image_path="/etc/passwd")),
        "row 1 of test: '/etc/passwd' is not a path below the root",
    ),
    "real-iad: anomalous and in train": (
        "real-iad",
        listed(lambda found: found["train"][0].update(anomaly_class="BX")),
        "is anomalous and in train; only normal images may be",
    ),
    "real-iad: a listed image is missing": (
        "real-iad",
        remove(f"{JACK}/OK/S0000/train_0_C1.jpg"),
        "train_0_C1.jpg: cannot be read: No such file or directory",
    ),
    "real-iad: two sizes of images": (
        "real-iad",
        lambda root: (root / "realiad_512").mkdir(),
        "must hold one folder of images such as realiad_1024, not: realiad_1024, realiad_512",
    ),
    "real-iad: no images": ("real-iad", lambda root: (root / "realiad_1024").rename(root / "images"), "not: none"),
    # one's own table
    "table: another split": (
        "table csv",
        edit("images.csv", "train,normal", "training,normal"),
        "line 2: column 'split'",
    ),
    "table: another label": ("table csv", edit("images.csv", "test,normal", "test,fine"), "line 3: column 'label' is"),
    "table: anomalous and in train": (
        "table csv",
        edit("images.csv", "test,anomalous", "train,anomalous"),
        "line 4: an anomalous image is in train; only normal ones may be",
    ),
    "table: no path": ("table csv", edit("images.csv", "pictures/train-normal-0.png", ""), "column 'image' is ''"),
    "table: a path out of the root": (
        "table csv",
        edit("images.csv", "pictures/train", "../pictures/train"),
        "images.csv: line 2: '../pictures/train-normal-0.png' is not a path below the root",
    ),
    "table: a path of Windows": (
        "table csv",
        edit("images.csv", "pictures/train", "pictures\\train"),
        "is not a path below the root with / between folders; fix the list",
    ),
    "table: a listed mask is missing": (
        "table csv",
        edit("images.csv", "masks/0.png", "masks/9.png"),
        "9.png: cannot be",
    ),
    "table: no column split": ("table csv", edit("images.csv", "split", "part"), "images.csv: has no column split"),
    "table: another encoding": ("table csv", write("images.csv", b"image,split,label\n\xff"), "is not a CSV in UTF-8"),
    "table: two tables": (
        "table csv",
        lambda root: (root / "images.parquet").touch(),
        "must hold one of images.csv and images.parquet",
    ),
    "table: no table": ("table csv", remove("images.csv"), "must hold one of images.csv and images.parquet"),
    "table: a broken Parquet file": ("table parquet", cut("images.parquet"), "images.parquet: is not a Parquet file"),
}


def problems_of(name: str, root: Path) -> list[str]:
    layout, _, keys = MINIATURES[name]
    with pytest.raises(UserError) as error:
        build_manifest(dataset(root, layout, **keys | {"strict": True}))
    return str(error.value).splitlines()


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_one_line_that_names_the_file(kind, tmp_path):
    name, harm, message = DAMAGE[kind]
    MINIATURES[name][1](tmp_path)
    harm(tmp_path)
    lines = problems_of(name, tmp_path)
    found = [line for line in lines if message in line]
    assert len(found) == 1, lines
    assert str(tmp_path) in found[0]
    # One damage is one line; the miniature of MTD has an empty mask of its own, as the set has.
    if name != "mtd":
        assert len(lines) == 1, lines


def test_an_undamaged_miniature_is_fine(tmp_path):
    for name in ("tiny", "own"):
        layout, build, keys = MINIATURES[name]
        build(tmp_path / name)
        assert build_manifest(dataset(tmp_path / name, layout, **keys)).notes == []


def test_all_problems_come_at_once(tmp_path):
    two_categories(tmp_path)
    for kind in ("an image cut off", "text in place of an image", "no mask"):
        DAMAGE[kind][1](tmp_path)
    lines = problems_of("tiny", tmp_path)
    assert lines[0] == "dataset mini: 3 problems"
    assert len(lines) == 4


def test_what_is_cut_off_is_told_by_data_check(tmp_path):
    write_category(tmp_path / "bolt", 0, train=60)
    for path in (tmp_path / "bolt/train/good").iterdir():
        path.write_text("no picture")
    write_category(tmp_path / "cloth", 1000)
    found = dataset(tmp_path, "mvtec")
    with pytest.raises(UserError) as error:
        build_manifest(found)
    lines = str(error.value).splitlines()
    assert len(lines) == 52
    assert lines[-1] == "dataset mini: and 11 more; foundad data check mini lists them all"
    with pytest.raises(UserError) as error:
        check(found)
    assert len(str(error.value).splitlines()) == 62


@pytest.mark.parametrize(
    ("kinds", "left"),
    [(("an image cut off", "an image in train and test"), 2 * 13 - 1), (("two images of one name",), 2 * 13)],
)
def test_not_strict_leaves_broken_files_out_and_says_so(kinds, left, tmp_path):
    two_categories(tmp_path)
    for kind in kinds:
        DAMAGE[kind][1](tmp_path)
    manifest = build_manifest(dataset(tmp_path, "mvtec", strict=False))
    assert len(manifest.rows) == left
    assert manifest.notes == [f"{len(kinds)} broken or duplicate files left out (strict: false)"]
    assert len({row.image_id for row in manifest.rows}) == left
