"""Small made-up datasets. They have the layouts of the real datasets and are packed like the official archives.

Each writer makes the folder that the archive of a real dataset contains, with the official names of folders and
categories. Pictures are noise on a texture, which differs between categories. Defects are bright spots with masks.
"""

import csv
import hashlib
import json
import tarfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from foundad.config.dataset import Dataset
from foundad.data.layouts import elpv
from foundad.errors import UserError

SIDE = 48  # height and width of a picture in pixels
SPOT = 12  # height and width of a defect in pixels
COMMUTATORS = 9  # folders of KolektorSDD; a third of them are for testing
REAL_IAD = (
    "audiojack", "bottle_cap", "button_battery", "end_cap", "eraser", "fire_hood", "mint", "mounts", "pcb", "phone_battery",
    "plastic_nut", "plastic_plug", "porcelain_doll", "regulator", "rolled_strip_base", "sim_card_set", "switch", "tape",
    "terminalblock", "toothbrush", "toy", "toy_brick", "transistor1", "u_block", "usb", "usb_adaptor", "vcpill",
    "wooden_beads", "woodstick", "zipper",
)  # fmt: skip
# Category names of datasets whose config finds its categories in the folder, by layout or id.
NAMES: dict[str, Sequence[str]] = {"textures": ("brick", "grass", "gravel", "hubble"), "real-iad": REAL_IAD}


@dataclass(frozen=True)
class Amount:
    """Numbers of images per category: ``draws`` for training, ``normal`` and ``defective`` for testing."""

    draws: int = 5
    normal: int = 3
    defective: int = 4


@dataclass(frozen=True)
class Style:
    """File names of a dataset in the layout of MVTec AD."""

    normal: str = "good"
    defects: tuple[str, ...] = ("broken", "contamination")
    image: str = "png"
    mask: str = "{}_mask.png"
    digits: int = 3
    validation: bool = False
    folders: bool = False  # whether a mask is a folder of pictures


STYLES = {
    "btad": Style("ok", ("ko",), "bmp", "{}.png", digits=4),
    "dtd-synthetic": Style(defects=("bad",)),
    "visa-repackaged": Style(defects=("bad",), image="JPG", mask="{}.png"),
    "mvtec-loco": Style(defects=("logical_anomalies", "structural_anomalies"), validation=True, folders=True),
}
# Folder that the archive of a dataset puts around its files; also the name of the archive if the config gives none.
AROUND = {
    "btad": "BTech_Dataset_transformed",
    "dtd-synthetic": "DTD-Synthetic",
    "mpdd": "MPDD",
    "mtd": "Magnetic-tile-defect-datasets.-master",
    "mvtec-ad-2": "mvtec_ad_2",
}


class Pen:
    """Writes pictures. Each is different from all others.

    Args:
        shape: height and width of each picture in pixels.
    """

    def __init__(self, shape: tuple[int, int] = (SIDE, SIDE)) -> None:
        self.shape = shape
        self.count = 0

    def image(self, path: Path, category: str, defective: bool = False) -> np.ndarray:
        """Write a picture and return the mask of its defect, [H,W] bool."""
        self.count += 1
        seed = int.from_bytes(hashlib.sha256(f"{category}/{self.count}".encode()).digest()[:4], "big")
        generator = np.random.default_rng(seed)
        own = np.random.default_rng(int.from_bytes(hashlib.sha256(category.encode()).digest()[:4], "big"))
        rows, columns = np.indices(self.shape)
        wave = np.sin(rows * own.uniform(0.2, 1)) * np.cos(columns * own.uniform(0.2, 1))
        pixels = 110 + 30 * wave[..., None] * own.uniform(0.3, 1, 3) + generator.normal(0, 8, (*self.shape, 3))
        spot = np.zeros(self.shape, bool)
        if defective:
            top, left = (int(generator.integers(2, length - SPOT - 2)) for length in self.shape)
            spot[top : top + SPOT, left : left + SPOT] = True
            pixels[spot] = 240
        save(pixels.clip(0, 255).astype(np.uint8), path)
        return spot


def save(array: np.ndarray, path: Path) -> None:
    """Write ``array`` as a picture in the format of the suffix of ``path``. Missing folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def save_mask(spot: np.ndarray, path: Path, value: int = 255) -> None:
    """Write a mask that is ``value`` where ``spot`` [H,W] is true."""
    save(np.where(spot, value, 0).astype(np.uint8), path)


def write_dataset(dataset: Dataset, folder: Path, amount: Amount) -> list[str]:
    """Write a small version of ``dataset`` into the empty ``folder``, arranged as in its archive.

    Returns:
        The categories.

    Raises:
        UserError: there is no writer for the layout.
    """
    if dataset.layout not in WRITERS:
        raise UserError(
            f"config/datasets/{dataset.id}.yaml: key 'layout': a rehearsal cannot make the layout '{dataset.layout}'; "
            "add a writer to foundad/rehearsal/datasets.py"
        )
    around = folder / AROUND.get(dataset.id, "")
    around.mkdir(parents=True, exist_ok=True)
    WRITERS[dataset.layout](around, dataset, amount)
    return list(folders_of(dataset))


def folders_of(dataset: Dataset) -> dict[str, str]:
    """Category -> folder. The names are the official ones, or three made-up ones if no official names are known."""
    names = NAMES.get(dataset.id) or NAMES.get(dataset.layout) or ("first", "second", "third")
    return dataset.folders or {name: name for name in names}


# ---------------------------------------------------------------------------------------------------- layouts


def mvtec(root: Path, dataset: Dataset, amount: Amount) -> None:
    """<category>/{train/good, test/<defect>, ground_truth/<defect>}. Numbering restarts in every folder."""
    style, pen = STYLES.get(dataset.id, Style()), Pen()
    for category, relative in folders_of(dataset).items():
        _category(root / relative, category, style, amount, pen)


def _category(folder: Path, category: str, style: Style, amount: Amount, pen: Pen) -> None:
    def named(number: int) -> str:
        return f"{number:0{style.digits}}"

    for number in range(amount.draws):
        pen.image(folder / f"train/{style.normal}/{named(number)}.{style.image}", category)
    for number in range(amount.normal):
        pen.image(folder / f"test/{style.normal}/{named(number)}.{style.image}", category)
        if style.validation:
            pen.image(folder / f"validation/{style.normal}/{named(number)}.{style.image}", category)
    for number in range(amount.defective):
        defect, name = style.defects[number % len(style.defects)], named(number // len(style.defects))
        spot = pen.image(folder / f"test/{defect}/{name}.{style.image}", category, defective=True)
        mask = f"{name}/000.png" if style.folders else style.mask.format(name)
        save_mask(spot, folder / f"ground_truth/{defect}/{mask}")


def one_folder(root: Path, dataset: Dataset, amount: Amount) -> None:
    """One category in the layout of MVTec AD, with normal training images directly in train/."""
    _category(root, dataset.id, Style(), amount, Pen())
    for path in sorted((root / "train/good").iterdir()):
        path.rename(root / "train" / path.name)
    (root / "train/good").rmdir()


def mvtec_ad_2(root: Path, dataset: Dataset, amount: Amount) -> None:
    """<category>/{train/good, validation/good, test_private, test_public/{good,bad,ground_truth/bad}}."""
    pen = Pen()
    for category, relative in folders_of(dataset).items():
        folder = root / relative
        for number in range(amount.draws):
            pen.image(folder / f"train/good/{number:03}_regular.png", category)
        for number in range(amount.normal):
            pen.image(folder / f"validation/good/{number:03}_regular.png", category)
            pen.image(folder / f"test_private/{number:03}_mixed.png", category)
            pen.image(folder / f"test_public/good/{number:03}_regular.png", category)
        for number in range(amount.defective):
            spot = pen.image(folder / f"test_public/bad/{number:03}_overexposed.png", category, defective=True)
            save_mask(spot, folder / f"test_public/ground_truth/bad/{number:03}_overexposed_mask.png")


def visa(root: Path, dataset: Dataset, amount: Amount) -> None:
    """<category>/Data/{Images/{Normal,Anomaly},Masks/Anomaly} and split_csv/1cls.csv. Masks hold class indices."""
    pen = Pen((SIDE - 8, SIDE + 8))
    rows = [["object", "split", "label", "image", "mask"]]
    for category in folders_of(dataset):
        for number in range(amount.draws + amount.normal):
            path = f"{category}/Data/Images/Normal/{number:04}.JPG"
            pen.image(root / path, category)
            rows.append([category, "train" if number < amount.draws else "test", "normal", path, ""])
        for number in range(amount.defective):
            path, target = (
                f"{category}/Data/Images/Anomaly/{number:03}.JPG",
                f"{category}/Data/Masks/Anomaly/{number:03}.png",
            )
            save_mask(pen.image(root / path, category, defective=True), root / target, value=number % 5 + 1)
            rows.append([category, "test", "anomaly", path, target])
    _write_rows(root / "split_csv/1cls.csv", rows)


def mtd(root: Path, dataset: Dataset, amount: Amount) -> None:
    """MT_<kind>/Imgs with photographs and masks side by side. A fifth of the normal images are for testing."""
    pen = Pen((SIDE + 8, SIDE - 8))
    normal = max(5 * amount.normal, -(-5 * amount.draws // 4))
    kinds = ["Free"] * normal + ["Blowhole", "Break", "Crack", "Fray", "Uneven"] * max(1, amount.defective // 5)
    for number, kind in enumerate(kinds):
        path = root / f"MT_{kind}/Imgs/exp1_num_{number}.jpg"
        save_mask(pen.image(path, "tile", defective=kind != "Free"), path.with_suffix(".png"))


def kolektor(root: Path, dataset: Dataset, amount: Amount) -> None:
    """kosNN/PartM.jpg with PartM_label.bmp. The defective images are in different folders."""
    pen = Pen((SIDE + 8, SIDE - 8))
    drawn_from = COMMUTATORS - COMMUTATORS // 3
    parts = max(2, 1 + -(-amount.draws // drawn_from))
    for folder in range(COMMUTATORS):
        for part in range(parts):
            defective = part == 0 and folder < amount.defective
            spot = pen.image(root / f"kos{folder + 1:02}/Part{part}.jpg", "commutator", defective=defective)
            save_mask(spot, root / f"kos{folder + 1:02}/Part{part}_label.bmp")


def real_iad(root: Path, dataset: Dataset, amount: Amount) -> None:
    """realiad_1024/<category>/{OK,NG/<kind>} and realiad_jsons/<category>.json."""
    pen = Pen()
    for category in folders_of(dataset):
        listed: dict[str, list[dict[str, str | None]]] = {"train": [], "test": []}
        kinds = (
            [("train", "OK")] * amount.draws + [("test", "OK")] * amount.normal + [("test", "AK")] * amount.defective
        )
        for number, (split, kind) in enumerate(kinds):
            path = f"{'OK' if kind == 'OK' else 'NG/AK'}/S{number:04}/{category}_{number:04}_{kind}_C1.jpg"
            spot = pen.image(root / f"realiad_1024/{category}/{path}", category, defective=kind != "OK")
            mask = None if kind == "OK" else path.replace(".jpg", ".png")
            if mask:
                save_mask(spot, root / f"realiad_1024/{category}/{mask}")
            listed[split].append({"category": category, "anomaly_class": kind, "image_path": path, "mask_path": mask})
        meta = {"normal_class": "OK", "prefix": f"{category}/"}
        target = root / f"realiad_jsons/{category}.json"
        target.parent.mkdir(exist_ok=True)
        target.write_text(json.dumps({"meta": meta} | listed), encoding="utf-8")


def solar_cells(root: Path, dataset: Dataset, amount: Amount) -> None:
    """images/ and labels.csv with the probability of a defect. The first hundred normal images are for testing."""
    pen, lines, number = Pen(), [], 0
    for category in dataset.folders or ("mono", "poly"):
        kinds = [0.0] * (elpv.TEST_IMAGES + amount.draws) + [1.0] * amount.defective + [0.3333333333333333]
        for probability in kinds:
            number += 1
            pen.image(root / f"images/cell{number:04}.png", category, defective=probability == 1)
            lines.append(f"images/cell{number:04}.png   {probability}    {category}")
    (root / elpv.LABELS).write_text("\n".join(lines) + "\n", encoding="utf-8")


def table(root: Path, dataset: Dataset, amount: Amount) -> None:
    """pictures/, masks/ and images.csv, which lists every picture."""
    pen, rows = Pen(), [["image", "split", "label", "category", "mask"]]
    for category in dataset.folders or (dataset.id,):
        kinds = [("train", "normal")] * amount.draws + [("test", "normal")] * amount.normal
        for number, (split, label) in enumerate(kinds + [("test", "anomalous")] * amount.defective):
            path, mask = f"pictures/{category}-{number:03}.png", ""
            spot = pen.image(root / path, category, defective=label == "anomalous")
            if label == "anomalous":
                mask = f"masks/{category}-{number:03}.png"
                save_mask(spot, root / mask)
            rows.append([path, split, label, category, mask])
    _write_rows(root / "images.csv", rows)


def _write_rows(path: Path, rows: Sequence[Sequence[str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


WRITERS: Mapping[str, Callable[[Path, Dataset, Amount], None]] = {
    "mvtec": mvtec,
    "mvtec-ad-2": mvtec_ad_2,
    "visa": visa,
    "mtd": mtd,
    "kolektor": kolektor,
    "real-iad": real_iad,
    "elpv": solar_cells,
    "folder": one_folder,
    "table": table,
}


# ---------------------------------------------------------------------------------------------------- archives


def archive_name(dataset: Dataset) -> str:
    """The file name of the official archive, or a zip with the name of the dataset if the config gives none."""
    named = dataset.download and dataset.download.archive
    return named or f"{AROUND.get(dataset.id, dataset.id)}.zip"


def pack(folder: Path, archive: Path) -> None:
    """Pack the contents of ``folder`` in the format of the suffix of ``archive``: zip, tar, tar.gz, tar.bz2 or tar.xz.

    Raises:
        UserError: the suffix is none of these.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    names = [(path, path.relative_to(folder).as_posix()) for path in paths]
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
            for path, name in names:
                zipped.write(path, name)
        return
    modes = {".tar": "w", ".gz": "w:gz", ".tgz": "w:gz", ".bz2": "w:bz2", ".xz": "w:xz"}
    if archive.suffix not in modes:
        raise UserError(f"{archive.name}: key 'download.archive': a rehearsal can only pack zip, tar, gz, bz2 and xz")
    with tarfile.open(archive, modes[archive.suffix]) as tar:  # type: ignore[call-overload]
        for path, name in names:
            tar.add(path, name)
