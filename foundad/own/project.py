"""Makes the project of a folder of pictures: lists, YAML files, a copy of the workflow.

Nothing is written beside the pictures. Every one is read once, so that what cannot be read is known before anything
runs. The lists name the pictures through a link to their folder (layout ``table``).
"""

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from foundad.config.dataset import Dataset
from foundad.config.method import Method
from foundad.data.entry import Entry
from foundad.data.verify import verified
from foundad.errors import UserError
from foundad.files import write_text
from foundad.own.folder import Picture, Understood, understand
from foundad.own.split import Split, split
from foundad.paths import Results
from foundad.plan.catalogue import Catalogue, load_catalogue, read_yaml
from foundad.plan.copies import copy, copy_workflow, write_yaml

MARK = "own.json"  # names the folder whose pictures a project is of
EXPERIMENT = "own"
LINK = "pictures"  # beside every list: the folder of the pictures
METHODS = ("foundad", "anomalydino-same-features", "knn")
CONTROLS = ("random", "oracle")
COLUMNS = ("image", "split", "label", "category", "defect", "mask")
HEAD = "# Written by foundad run, which writes it anew at every call; copy it before you change it.\n"
JPEG_MASKS = 127  # threshold of masks that compression has blurred


@dataclass(frozen=True)
class Wanted:
    """What to run: the folder of pictures, the project's folder (None = results/own/<name>), cells, and where config is."""

    pictures: Path
    out: Path | None = None
    shots: int = 4
    seeds: int = 3
    encoder: str = "efficientnet-lite0"
    device: str = "auto"
    config: Path = Path("config")


@dataclass(frozen=True)
class Own:
    """A project that is ready to run.

    folder: of the project. dataset: its id. shots: normal pictures that a model learns from, per category. folds: ids of
    the datasets that each leave some normal pictures out. unreadable: a line for each picture that is left out.
    """

    folder: Path
    dataset: str
    understood: Understood
    split: Split
    shots: int
    seeds: int
    encoder: str
    methods: Mapping[str, Method]
    folds: Sequence[str]
    unreadable: Sequence[str]

    @property
    def results(self) -> Results:
        return Results(self.folder / "results")


def make(wanted: Wanted) -> Own:
    """Understand the folder and write its project.

    Raises:
        UserError: the folder cannot be used, in one line; or the project's folder holds something else.
    """
    root = wanted.pictures.resolve()
    understood = replace(understand(wanted.pictures), root=wanted.pictures)
    name = re.sub(r"[^A-Za-z0-9_.+-]+", "-", root.name).strip("-._")[:40] or "pictures"
    out = (wanted.out or Path("results/own") / name).resolve()
    catalogue = load_catalogue(wanted.config)
    if wanted.encoder not in catalogue.encoders:
        from foundad.names import nearest

        raise UserError(f"there is no encoder '{wanted.encoder}'{nearest(wanted.encoder, catalogue.encoders)}")
    _claim(out, root)
    dataset = _dataset(understood, name, out)
    _link(out, name, root)
    readable, unreadable = _readable(understood, dataset, Results(out / "results"))
    found = split(readable, str(wanted.pictures), wanted.shots)
    folds = [f"{name}-without-{number:02}" for number in range(1, len(found.folds) + 1)]
    shots = min(wanted.shots, found.pool, *(_pool(found, fold) for fold in found.folds))
    methods = {method: catalogue.methods[method] for method in METHODS}
    own = Own(out, name, understood, found, shots, wanted.seeds, wanted.encoder, methods, folds, unreadable)
    _write_config(own, wanted, dataset, catalogue)
    _write_lists(own, root)
    return own


def _claim(out: Path, root: Path) -> None:
    """Take the folder of the project; it may hold an earlier project of the same pictures, whose results stay."""
    if out.is_relative_to(root):
        raise UserError(f"{out}: lies among the pictures; give --out a folder elsewhere")
    mark = out / MARK
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: is a file; give --out another name")
    if out.is_dir() and any(out.iterdir()):
        try:
            known = json.loads(mark.read_text(encoding="utf-8"))["pictures"]
        except (OSError, ValueError, KeyError, TypeError):
            raise UserError(f"{out}: holds something else; give --out another folder") from None
        if known != str(root):
            raise UserError(f"{out}: is the project of {known}; give --out another folder")
    write_text(mark, json.dumps({"pictures": str(root)}) + "\n")


def _dataset(understood: Understood, name: str, out: Path) -> Dataset:
    """The dataset of all pictures."""
    masks = [PurePosixPath(picture.mask) for picture in understood.pictures if picture.mask]
    blurred = understood.known == "mtd" or any(mask.suffix.lower() in (".jpg", ".jpeg") for mask in masks)
    return Dataset(
        id=name,
        title=understood.root.resolve().name,
        layout="table",
        root=str(out / "data" / name),
        strict=False,
        mask_threshold=JPEG_MASKS if blurred else 0,
        licence="that of your pictures",
        source=str(understood.root.resolve()),
    )


def _readable(understood: Understood, dataset: Dataset, results: Results) -> tuple[list[Picture], list[str]]:
    """The pictures that can be read with their masks, and a line for each that cannot, or shows what another one shows."""
    by_path = {f"{LINK}/{picture.path}": picture for picture in understood.pictures}
    entries = [_entry(path, picture) for path, picture in by_path.items()]
    rows, _, lines = verified(dataset, Path(dataset.root or ""), entries, checked=results.checked(dataset.id))
    shown = f"{dataset.root}/{LINK}"
    lines = [line.replace(shown, str(understood.root)) for line in lines]
    first: dict[str, str] = {}
    kept = []
    for row in rows:
        known = first.setdefault(row.sha256, row.image_path)
        if known == row.image_path:
            kept.append(by_path[row.image_path])
        else:
            path, other = by_path[row.image_path].path, by_path[known].path
            lines.append(f"{understood.root / path}: the same picture as {other}")
    if not kept:
        raise UserError(f"{understood.root}: none of its {len(entries)} pictures can be read (first: {lines[0]})")
    return kept, lines


def _entry(path: str, picture: Picture) -> Entry:
    mask = None if picture.mask is None else f"{LINK}/{picture.mask}"
    return Entry(path, picture.category, picture.split, picture.label or 0, picture.defect, path, mask)


def _pool(found: Split, fold: Sequence[Picture]) -> int:
    """Normal pictures that a fold leaves to learn from, in the category that has the fewest."""
    left_out = {picture.path for picture in fold}
    normal = [picture for picture in found.pictures if picture.path not in left_out and not picture.label]
    return min(sum(picture.category == category for picture in normal) for category in found.categories)


# ---------------------------------------------------------------------------------------------------- files


def _link(out: Path, name: str, root: Path) -> None:
    """A link to the pictures in the folder of the dataset ``name``."""
    link = out / "data" / name / LINK
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.is_symlink():
        link.symlink_to(root, target_is_directory=True)


def _write_lists(own: Own, root: Path) -> None:
    """The list of the dataset, and of each dataset that leaves pictures out."""
    _write_list(own, own.dataset, own.split.pictures)
    normal = [replace(picture, split="train") for picture in own.split.pictures if not picture.label]
    for name, fold in zip(own.folds, own.split.folds, strict=True):
        _link(own.folder, name, root)
        tested = {picture.path for picture in fold}
        _write_list(own, name, [replace(p, split="test") if p.path in tested else p for p in normal])


def _write_list(own: Own, name: str, pictures: Iterable[Picture]) -> None:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    for picture in pictures:
        mask = f"{LINK}/{picture.mask}" if picture.mask else ""
        label = "anomalous" if picture.label else "normal"
        category = picture.category or own.dataset
        rows.writerow([f"{LINK}/{picture.path}", picture.split, label, category, picture.defect, mask])
    write_text(own.folder / "data" / name / "images.csv", text.getvalue())


def _write_config(own: Own, wanted: Wanted, dataset: Dataset, catalogue: Catalogue) -> None:
    """The workflow, all encoders and methods, and the YAML files of dataset, experiment and run."""
    copy_workflow(wanted.config, own.folder)
    for kind in ("encoders", "methods"):
        copy(wanted.config / kind, own.folder / "config" / kind)
    datasets = own.folder / "config/datasets"
    for path in datasets.glob(f"{own.dataset}-without-*.yaml"):
        path.unlink()
    values = dataset.model_dump(mode="json", exclude_defaults=True, exclude={"id"})
    _write(datasets / f"{own.dataset}.yaml", values | {"strict": False})
    for name in own.folds:
        _write(datasets / f"{name}.yaml", {"base": own.dataset, "root": str(own.folder / "data" / name)})
    _write(own.folder / f"config/experiments/{EXPERIMENT}.yaml", experiment(own))
    run = read_yaml(wanted.config / "config.yaml") | {"experiments": [EXPERIMENT], "size": "demo", "results": "results"}
    _write(own.folder / "config/config.yaml", run | {"device": wanted.device})


def _write(path: Path, values: Mapping[str, Any]) -> None:
    write_yaml(path, values)
    write_text(path, HEAD + path.read_text(encoding="utf-8"))


def experiment(own: Own) -> dict[str, Any]:
    """The YAML values of the experiment: every method on the pictures; and on each fold where there is no defect to find."""
    shared = {"encoders": [own.encoder], "shots": [own.shots]}
    values: dict[str, Any] = {"title": f"Pictures of {own.understood.root.resolve().name}"}
    if not own.split.labelled:
        grid = {"datasets": [own.dataset, *own.folds], **shared, "methods": [*own.methods], "seeds": [0]}
        caption = "Normal pictures called anomalous, each by a model that has not seen it"
        alarms = {"caption": caption, "rows": ["dataset"], "columns": ["method"], "metrics": ["i_fpr"]}
        return values | {"cells": [grid], "tables": {"false-alarms": alarms}}
    methods, seeds = [*CONTROLS, *own.methods], list(range(own.seeds))
    values["cells"] = [{"datasets": [own.dataset], **shared, "methods": methods, "seeds": seeds}]
    metrics = ["i_auroc", "i_ap", "i_fpr"]
    if any(picture.mask for picture in own.split.pictures):
        metrics += ["strict/p_auroc", "strict/aupro_30"]
    tables: dict[str, Any] = {
        "main": {"caption": "Methods", "rows": ["method"], "columns": ["shots"], "metrics": metrics}
    }
    if len(own.split.categories) > 1:
        where = {"method": [*own.methods]}
        by = {"caption": "By category", "rows": ["category"], "columns": ["method"], "metrics": ["i_auroc"]}
        tables["categories"] = by | {"where": where}
    names = {"dataset": own.dataset, "encoder": own.encoder, "shots": own.shots}
    figures = {
        f"gallery-{name}": {"kind": "gallery", "title": method.title, "method": name, **names}
        for name, method in own.methods.items()
    }
    return values | {"tables": tables, "figures": figures}
