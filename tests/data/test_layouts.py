"""A miniature of every layout of the field, with the real names and quirks, read back as one manifest."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ROOT, picture, save

from foundad import discovery
from foundad.config.dataset import Dataset
from foundad.data import images
from foundad.data.check import check
from foundad.data.draws import listed_draw
from foundad.data.ledger import manifest_notes, write_ledger
from foundad.data.manifest import Manifest, write_manifest
from foundad.data.masks import load_mask
from foundad.data.verify import build_manifest
from foundad.errors import UserError
from foundad.plan.catalogue import load_catalogue

CONFIGS = load_catalogue(ROOT / "config").datasets
_next = iter(range(1_000_000))


def image(path: Path) -> Path:
    """A picture that no other test image equals."""
    return save(picture(next(_next), 24)[0], path)


def mask(path: Path, value: int = 255, size: int = 24, empty: bool = False) -> Path:
    pixels = np.zeros((size, size), np.uint8)
    if not empty:
        pixels[4:9, 6:12] = value
    return save(pixels, path)


def mvtec(
    root: Path, normal: str = "good", defect: str = "crack", mask_name: str = "{}_mask.png", kind: str = "png"
) -> None:
    for category in ("01", "02"):
        for number in range(3):
            image(root / f"{category}/train/{normal}/{number:03}.{kind}")
            image(root / f"{category}/test/{normal}/{number:03}.{kind}")
            # Numbering restarts in every folder, and masks may lie in another order than images.
            image(root / f"{category}/test/{defect}/{number + 2:03}.{kind}")
            mask(root / f"{category}/ground_truth/{defect}/{mask_name.format(f'{number + 2:03}')}")


def btad(root: Path) -> None:
    mvtec(root, "ok", "ko", "{}.png", "bmp")


def visa_1cls(root: Path) -> None:
    mvtec(root, "good", "bad", "{}.png", "jpg")


def dtd(root: Path) -> None:
    mvtec(root, "good", "bad", "{}.png")


def loco(root: Path) -> None:
    for number in range(2):
        image(root / f"breakfast_box/train/good/{number:03}.png")
        image(root / f"breakfast_box/validation/good/{number:03}.png")
        image(root / f"breakfast_box/test/good/{number:03}.png")
        for defect in ("logical_anomalies", "structural_anomalies"):
            image(root / f"breakfast_box/test/{defect}/{number:03}.png")
            for part in range(number + 1):
                mask(root / f"breakfast_box/ground_truth/{defect}/{number:03}/{part:03}.png", value=100 + part)


def mvtec_ad_2(root: Path) -> None:
    for number in range(3):
        image(root / f"vial/train/good/{number:03}_regular.png")
        image(root / f"vial/validation/good/{number:03}_regular.png")
        image(root / f"vial/test_private/{number:03}_mixed.png")
        image(root / f"vial/test_public/good/{number:03}_regular.png")
        image(root / f"vial/test_public/bad/{number:03}_overexposed.png")
        mask(root / f"vial/test_public/ground_truth/bad/{number:03}_overexposed_mask.png")


def visa(root: Path) -> None:
    rows = []
    for number in range(4):
        path = f"candle/Data/Images/Normal/{number:03}.JPG"
        image(root / path)
        rows.append(["candle", "train" if number < 2 else "test", "normal", path, ""])
        path, target = f"candle/Data/Images/Anomaly/{number:03}.JPG", f"candle/Data/Masks/Anomaly/{number:03}.png"
        image(root / path)
        mask(root / target, value=number + 1)  # a class index, not 255
        rows.append(["candle", "test", "anomaly", path, target])
    (root / "split_csv").mkdir()
    with (root / "split_csv/1cls.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["object", "split", "label", "image", "mask"], *rows])


def mtd(root: Path) -> None:
    for number in range(10):
        image(root / f"MT_Free/Imgs/exp1_num_{number}.jpg")
        mask(root / f"MT_Free/Imgs/exp1_num_{number}.png", empty=True)
    for kind in ("Blowhole", "Break", "Crack", "Fray", "Uneven"):
        for number in range(2):
            image(root / f"MT_{kind}/Imgs/exp1_num_{number}.jpg")
            mask(root / f"MT_{kind}/Imgs/exp1_num_{number}.png", empty=kind == "Crack" and number == 0)
    noisy = np.full((24, 24), 40, np.uint8)  # grey below the threshold is no defect
    noisy[3:6, 3:6] = 255
    save(noisy, root / "MT_Break/Imgs/exp1_num_0.png")


def kolektor(root: Path) -> None:
    for folder in range(6):
        for part in range(4):
            image(root / f"kos{folder:02}/Part{part}.jpg")
            mask(root / f"kos{folder:02}/Part{part}_label.bmp", empty=part > 0)


def real_iad(root: Path) -> None:
    listed: dict = {"meta": {"normal_class": "OK", "prefix": "audiojack/"}, "train": [], "test": []}
    for number in range(3):
        for split, kind in (("train", "OK"), ("test", "OK"), ("test", "BX")):
            folder = "OK" if kind == "OK" else f"NG/{kind}"
            path = f"{folder}/S{number:04}/{split}_{number}_C1.jpg"
            image(root / "realiad_1024/audiojack" / path)
            target = None
            if kind != "OK":
                target = path.replace(".jpg", ".png")
                mask(root / "realiad_1024/audiojack" / target)
            row = {"category": "audiojack", "anomaly_class": kind, "image_path": path, "mask_path": target}
            listed[split].append(row)
    (root / "realiad_jsons").mkdir()
    (root / "realiad_jsons/audiojack.json").write_text(json.dumps(listed))


def real_iad_as_distributed(root: Path) -> None:
    """The archive of lists holds several protocols; the standard one is in a folder of its own name."""
    real_iad(root)
    (root / "realiad_jsons").rename(root / "realiad_jsons_")
    (root / "realiad_jsons").mkdir()
    (root / "realiad_jsons_").rename(root / "realiad_jsons/realiad_jsons")
    (root / "realiad_jsons/realiad_jsons_sv").mkdir()


def rows_of_table(root: Path) -> list[dict[str, str]]:
    rows = []
    for number in range(3):
        for split, label in (("train", "normal"), ("test", "normal"), ("test", "anomalous")):
            path = image(root / f"pictures/{split}-{label}-{number}.png").relative_to(root).as_posix()
            row = {"image": path, "split": split, "label": label, "category": "bolt", "defect": "", "mask": ""}
            if label == "anomalous":
                row |= {"defect": "scratch", "mask": mask(root / f"masks/{number}.png").relative_to(root).as_posix()}
            rows.append(row)
    return rows


def table_csv(root: Path) -> None:
    rows = rows_of_table(root)
    with (root / "images.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def table_parquet(root: Path) -> None:
    pq.write_table(pa.Table.from_pylist(rows_of_table(root)), root / "images.parquet")


# name: (layout, builder, config keys, images for draws, normal test images, defective test images)
LAYOUTS = {
    "mvtec": ("mvtec", mvtec, {}, 6, 6, 6),
    "btad": ("mvtec", btad, {}, 6, 6, 6),
    "visa 1cls": ("mvtec", visa_1cls, {}, 6, 6, 6),
    "visa ok ko": ("mvtec", lambda root: mvtec(root, "ok", "ko", "{}.png", "JPG"), {}, 6, 6, 6),
    "dtd-synthetic": ("mvtec", dtd, {}, 6, 6, 6),
    "loco": ("mvtec", loco, {}, 2, 2, 4),
    "mvtec-ad-2": ("mvtec-ad-2", mvtec_ad_2, {}, 3, 3, 3),
    "visa": ("visa", visa, {}, 2, 2, 4),
    "mtd": ("mtd", mtd, {"mask_threshold": 127, "strict": False}, 8, 2, 9),
    "kolektor": ("kolektor", kolektor, {}, 12, 6, 6),
    "real-iad": ("real-iad", real_iad, {}, 3, 3, 3),
    "real-iad, lists as distributed": ("real-iad", real_iad_as_distributed, {}, 3, 3, 3),
    "table csv": ("table", table_csv, {}, 3, 3, 3),
    "table parquet": ("table", table_parquet, {}, 3, 3, 3),
}


def dataset(root: Path, layout: str, **keys) -> Dataset:
    values = {"id": "mini", "title": "Mini", "layout": layout, "root": str(root), "licence": "CC0", "source": "here"}
    return Dataset.model_validate(values | keys)


def built(name: str, folder: Path) -> tuple[Dataset, Manifest]:
    layout, build, keys, *_ = LAYOUTS[name]
    folder.mkdir(exist_ok=True)
    build(folder)
    settings = dataset(folder, layout, **keys)
    return settings, build_manifest(settings)


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_miniature_is_read_back(name, tmp_path):
    settings, manifest = built(name, tmp_path / "data")
    *_, train, normal, defective = LAYOUTS[name]
    assert len(manifest.train) == train
    assert [row.label for row in manifest.test].count(0) == normal
    assert [row.label for row in manifest.test].count(1) == defective
    assert manifest.has_masks
    assert len({row.image_id for row in manifest.rows}) == len(manifest.rows)
    for row in manifest.rows:
        assert (row.label == 1) == (row.mask_path is not None)
        assert (row.defect == "good") == (row.label == 0)
        assert len(row.sha256) == 64
        if row.mask_path:
            found = load_mask(Path(settings.root) / row.mask_path, manifest.mask_threshold)
            assert 0 < found.mean() < 0.5
    assert manifest.rows == build_manifest(settings).rows


def test_masks_belong_to_their_images_by_name(tmp_path):
    _, manifest = built("btad", tmp_path / "data")
    assert all(Path(row.image_path).stem == Path(row.mask_path).stem for row in manifest.test if row.label)


def test_what_is_left_out_is_counted(tmp_path):
    _, manifest = built("mtd", tmp_path / "data")
    assert manifest.notes == ["1 broken or duplicate files left out (strict: false)"]


def test_every_layout_has_a_miniature_or_tests_of_its_own():
    assert set(discovery.layouts()) == {layout for layout, *_ in LAYOUTS.values()} | {"elpv", "folder"}


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_every_dataset_says_where_it_is_from(name):
    assert CONFIGS[name].licence
    assert CONFIGS[name].source
    assert CONFIGS[name].layout in discovery.layouts()


def test_unchanged_files_are_not_read_again(tmp_path, monkeypatch):
    loco(tmp_path / "data")
    settings, memory = dataset(tmp_path / "data", "mvtec"), tmp_path / ".mini.checked.json"
    first = build_manifest(settings, checked=memory)
    read: list[Path] = []
    original = images.read_bytes
    monkeypatch.setattr(images, "read_bytes", lambda path: read.append(path) or original(path))
    assert build_manifest(settings, checked=memory) == first
    assert read == []
    changed = tmp_path / "data/breakfast_box/test/good/000.png"
    image(changed)
    assert build_manifest(settings, checked=memory).rows != first.rows
    assert read == [changed]
    read.clear()
    part = mask(tmp_path / "data/breakfast_box/ground_truth/logical_anomalies/001/001.png", value=7)
    os.utime(part, (1, 1))
    build_manifest(settings, checked=memory)
    assert part in read  # a mask's folder counts by its files
    read.clear()
    build_manifest(settings, checked=memory, deep=True)
    assert len(read) >= 10
    memory.write_text("{")
    assert len(build_manifest(settings, checked=memory).rows) == len(first.rows)


def test_a_broken_file_is_reported_every_time(tmp_path):
    mvtec(tmp_path / "data")
    (tmp_path / "data/01/test/crack/003.png").write_bytes(b"none")
    settings, memory = dataset(tmp_path / "data", "mvtec"), tmp_path / "checked.json"
    for _ in range(2):
        with pytest.raises(UserError, match=r"003\.png: is not a readable picture"):
            build_manifest(settings, checked=memory)
    other = dataset(tmp_path / "data", "mvtec", mask_threshold=250)
    image(tmp_path / "data/01/test/crack/003.png")
    build_manifest(settings, checked=memory)
    mask(tmp_path / "data/01/ground_truth/crack/002_mask.png", value=200)
    with pytest.raises(UserError, match=r"002_mask\.png: is empty"):
        build_manifest(other, checked=memory)


def test_counts_are_compared_with_the_published_ones(tmp_path, capsys):
    mvtec(tmp_path)
    as_published = dataset(tmp_path, "mvtec", counts={"01": [3, 3, 3], "02": [3, 3, 3]})
    assert check(as_published) == 0
    shown = capsys.readouterr().out
    assert shown.count("numbers as published") == 2
    assert "masks: yes" in shown
    fewer = dataset(tmp_path, "mvtec", counts={"01": [3, 3, 3], "02": [4, 3, 3]})
    assert check(fewer) == 1
    note = "02 has 3/3/3 images (draws/normal/defective), published are 4/3/3"
    assert note in capsys.readouterr().out
    without_split = dataset(tmp_path, "mvtec", counts={"01": [6, 3], "02": [5, 3]})
    assert check(without_split) == 1
    shown = capsys.readouterr().out
    assert "02 has 6/3 images (normal/defective), published are 5/3" in shown
    assert shown.count("numbers as published") == 1
    manifest = build_manifest(fewer)
    assert manifest.notes == [note]
    assert manifest.ledger is not None
    write_manifest(manifest, tmp_path / "manifest.parquet")
    write_ledger(manifest.ledger, tmp_path / "manifest.parquet")
    assert manifest_notes(tmp_path / "manifest.parquet") == [note]


@pytest.mark.parametrize(
    ("name", "totals"),
    [
        ("mvtec-ad", (3629, 467, 1258)),
        ("visa", (8659, 962, 1200)),
        ("btad", (1799, 451, 290)),
        ("mpdd", (888, 176, 282)),
        ("mvtec-loco", (1772, 575, 993)),
    ],
)
def test_published_counts_add_up_to_the_published_totals(name, totals):
    counts = CONFIGS[name].counts
    assert set(counts) == set(CONFIGS[name].folders)
    assert tuple(map(sum, zip(*counts.values(), strict=True))) == totals


LIST = """category,image,shots,seed
01,01/train/good/000.png,1,0
02,002.png,1,0
01,001.png,1,1
02,002.png,1,1
"""


def test_a_published_list_is_drawn(tmp_path):
    mvtec(tmp_path / "data")
    manifest = build_manifest(dataset(tmp_path / "data", "mvtec"))
    path = tmp_path / "draws.csv"
    path.write_text(LIST)
    first, second = (listed_draw(manifest, path, 1, seed) for seed in (0, 1))
    assert first.image_paths == ["01/train/good/000.png", "02/train/good/002.png"]
    assert second.image_paths == ["01/train/good/001.png", "02/train/good/002.png"]
    assert first.hash != second.hash
    path.write_text("category,image\n01,000.png\n02,002.png\n")
    assert listed_draw(manifest, path, 1, 5).image_paths == first.image_paths


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("category,", "kind,", "needs the columns category and image"),
        ("02,002.png,1,0", "02,009.png,1,0", "line 3: '009.png' is not a normal training image of category '02'"),
        ("02,002.png,1,0", "02,png,1,0", "is not a normal training image"),
        ("02,002.png,1,0\n", "", "lists 0 images of category '02' for 1 shots and seed 0"),
        ("01,01/train/good/000.png,1,0", "01,01/test/good/000.png,1,0", "is not a normal training image"),
    ],
)
def test_a_list_that_does_not_fit_is_one_line(old, new, message, tmp_path):
    mvtec(tmp_path / "data")
    manifest = build_manifest(dataset(tmp_path / "data", "mvtec"))
    (tmp_path / "draws.csv").write_text(LIST.replace(old, new, 1))
    with pytest.raises(UserError, match=message) as error:
        listed_draw(manifest, tmp_path / "draws.csv", 1, 0)
    assert len(str(error.value).splitlines()) == 1
