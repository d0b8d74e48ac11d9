"""What stages leave for later stages, each through the function that reads it."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from checkpoints import CHANNELS
from mutators import either, of_bytes, of_json, of_parquet, of_safetensors
from pictures import SIDE
from target import Target, new_folder
from yaml_files import write_folder

from foundad import failures
from foundad.cells import Cell
from foundad.data.draws import draw, read_draw, write_draw
from foundad.data.ledger import Ledger, manifest_notes, write_ledger
from foundad.data.manifest import Manifest, Row, read_manifest, write_manifest
from foundad.detection.bank import BankTokens
from foundad.detection.truth import score_truth
from foundad.metrics.defects import write_defects
from foundad.metrics.evaluation import METRICS_SCHEMA, Maps, evaluate_cell
from foundad.metrics.masks import find_defects
from foundad.paths import Results
from foundad.plan.catalogue import load_catalogue
from foundad.report import aggregate, collect
from foundad.report.tables.efficiency import row
from foundad.resumable import ResumableArray
from foundad.scores import Scores, read_scores, write_scores
from foundad.sealed import Seal, write_json, write_parquet, write_tensors
from foundad.stages.status import write_status
from foundad.tokens import Features

CELL = Cell("small", "stages", "near", 1, 0)
IDS = ["cat/test/good/b", "cat/test/bad/c"]
PARQUET = either(of_parquet, of_parquet, of_bytes)
TENSORS = either(of_safetensors, of_safetensors, of_bytes)
RECORD = {
    "status": "done",
    "scores": 7,
    "versions": {"numpy": "2.0"},
    "cell": {"dataset": "small", "encoder": "stages", "method": "near", "shots": 1, "seed": 0},
    "method": {"id": "near", "control": False},
    "draw": "0" * 16,
    "device": "cpu",
    "fit_seconds": 1.5,
    "score_seconds": 0.5,
    "images": 2,
    "peak_memory_bytes": 1000,
    "machine": {"host": "here"},
    "fit": {
        "pooled": {"parameters": 3, "state_bytes": 4, "health": {"clean_residual": 1.0, "synthetic_residual": 2.0}}
    },
}
COST = {
    "cell": RECORD["cell"],
    "trainable_parameters": 1,
    "parameters": 2,
    "operations": 3,
    "milliseconds": {size: {"median": 1.0, "quartile1": 0.5, "quartile3": 2.0, "calls": 5} for size in ("1", "8")},
    "peak_memory_bytes": 9,
    "fit_seconds": 1.0,
    "training_passes": 4,
    "passes_an_image": 1,
}


def manifest_of() -> Manifest:
    """A manifest of three images without masks."""
    rows = [
        Row(
            f"cat/{split}/{defect}/{name}",
            "cat",
            split,
            label,
            defect,
            f"{name}.png",
            None,
            name * 64,
            SIDE,
            SIDE,
            "RGB",
        )
        for name, split, label, defect in (("a", "train", 0, "good"), ("b", "test", 0, "good"), ("c", "test", 1, "bad"))
    ]
    return Manifest("small", False, ["a note"], rows, ledger=Ledger(found=3, used=3))


def one(
    name: str,
    suffix: str,
    write: Callable[[Path], object],
    reader: Callable[[Path], object],
    mutate: Callable[..., bytes],
) -> Target:
    """A file that ``write`` makes and ``reader`` reads; markers of failures are asked for first, as stages do."""
    folder = new_folder(name)
    path = folder / f"input{suffix}"
    write(path)
    seeds = [path.read_bytes()]

    def read(data: bytes) -> None:
        path.write_bytes(data)
        failures.require([path])
        reader(path)

    return Target(f"files-{name}", seeds, read, mutate, (path.name,), folder)


def write_both(path: Path) -> None:
    """A manifest and its ledger."""
    write_manifest(manifest_of(), path)
    write_ledger(Ledger(found=3, used=3, notes=["a note"]), path)


def write_bank(path: Path) -> None:
    """A bank of noise, as the stage writes it."""
    tokens = np.random.default_rng(0).normal(size=(2, 4, CHANNELS)).astype(np.float16)
    facts = {"draw": "0" * 16, "normal_categories": ["cat"] * 2, "pair_categories": ["cat"] * 2, "queries": []}
    facts |= {"normal_ids": ["a", "b"], "pair_ids": ["a", "b"]}
    facts |= {"dataset": "small", "encoder": "stages", "shots": 1, "seed": 0}
    write_tensors(path, Seal("bank", "", facts), {"normal": tokens, "clean": tokens, "synthetic": tokens})


def scores_of() -> Scores:
    """Scores of the manifest's two test images."""
    values = np.arange(8, dtype=np.float32).reshape(2, 2, 2)
    return Scores(values, values.max(axis=(1, 2)), np.full(2, 3, np.float32))


def evaluated(path: Path) -> None:
    """The stage ``evaluate`` of a cell whose scores lie at ``path``."""
    read_scores(path, CELL, IDS)
    masks = path.with_name("masks.safetensors")
    write_some_masks(masks)
    evaluate_cell(CELL, manifest_of(), {"scores": path, "masks": masks}, path.with_name("metrics.parquet"), Maps())


def write_some_masks(path: Path) -> None:
    """The masks of the manifest's two test images, of which one has a defect."""
    mask = np.zeros((8, 8), np.uint8)
    mask[2:5, 3:6] = 1
    write_defects(path, find_defects([mask, None], (8, 8)), IDS, True)


def masks_used(path: Path) -> None:
    """The stages ``evaluate`` and ``fit`` of the oracle, whose masks lie at ``path``."""
    score_truth(manifest_of(), path)
    scores = path.with_name("scores.safetensors")
    write_some_scores(scores)
    evaluate_cell(CELL, manifest_of(), {"scores": scores, "masks": path}, path.with_name("metrics.parquet"), Maps())


def write_some_scores(path: Path) -> None:
    """Scores of the manifest's two test images, as a cell's."""
    write_scores(path, scores_of(), CELL, IDS)


def metrics_of(path: Path) -> None:
    """The metrics of one cell."""
    columns = {name: [value] * 2 for name, value in vars(CELL).items()}
    columns |= {"category": ["cat"] * 2, "metric": ["i_auroc", "i_ap"], "value": [0.4, None], "reason": [None, "none"]}
    write_parquet(path, Seal("metrics", "", {"scores": 7}), pa.table(columns, schema=METRICS_SCHEMA))


def collected(name: str, file: str, mutate: Callable[..., bytes]) -> Target:
    """A record or the metrics of a cell, gathered by ``collect``, and read by ``status`` and the tables."""
    folder = new_folder(name)
    write_folder(folder / "config")
    results = Results(folder / "results")
    cell = results.cell(CELL)
    write_json(cell / "record.json", Seal("record", "", RECORD))
    metrics_of(cell / "metrics.parquet")
    experiment = load_catalogue(folder / "config").experiments["small"]
    catalogue = load_catalogue(folder / "config")
    collect.collect({CELL: collect.Keys("", "")}, results)
    path = folder / "results" / file.format(cell=cell.relative_to(results.root))
    seeds = [path.read_bytes()]

    def read(data: bytes) -> None:
        path.write_bytes(data)
        if path.parent == cell:
            collect.collect({CELL: collect.Keys("", "")}, results)
        write_status(results.runs, [CELL], results.root / "status.txt")
        aggregate.load(results, catalogue, experiment).summary([CELL], "i_auroc")

    return Target(f"files-{name}", seeds, read, mutate, (path.name,), folder)


def cost() -> Target:
    """What was measured of a cell, as a row of its table."""
    folder = new_folder("efficiency")
    write_folder(folder / "config")
    results, catalogue = Results(folder / "results"), load_catalogue(folder / "config")
    experiment = catalogue.experiments["small"]
    spec = experiment.tables["cost"]
    paths = {cell: results.efficiency(cell) for cell in catalogue.cells(experiment)}
    for path in paths.values():
        write_json(path, Seal("efficiency", "", COST))
    first = next(path for cell, path in paths.items() if cell.shots == 1)

    def read(data: bytes) -> None:
        first.write_bytes(data)
        for facts in spec.facts(results, catalogue, experiment).values():
            if not isinstance(facts, str):
                row(facts)

    return Target(
        "files-efficiency",
        [first.read_bytes()],
        read,
        either(of_json, of_json, of_bytes),
        (first.name,),
        folder,
    )


def encoded() -> Target:
    """Features and their twin; either of them is mutated, the other is whole."""
    folder = new_folder("features")
    path = folder / "input.npy"
    tokens = np.random.default_rng(0).normal(size=(2, 4, CHANNELS)).astype(np.float16)
    with ResumableArray(path, tokens.shape, "key") as array:
        array.append(tokens)
        facts = {"image_ids": IDS, "shape": tokens.shape, "checksums": array.checksums}
        write_json(path.with_suffix(".json"), Seal("features", "", facts))
        array.finish()
    whole = {suffix: path.with_suffix(suffix).read_bytes() for suffix in (".npy", ".json")}

    def read(data: bytes) -> None:
        mutated = ".json" if data[:1] in (b"{", b"[") else ".npy"
        for suffix, found in whole.items():
            path.with_suffix(suffix).write_bytes(data if suffix == mutated else found)
        Features(path, IDS)[np.arange(2)]

    return Target("files-features", list(whole.values()), read, either(of_json, of_bytes), ("input.",), folder)


def drawn(path: Path) -> object:
    """A draw, with the hash that stands in records."""
    return read_draw(path).hash


def manifest(path: Path) -> None:
    """A manifest as draws and tables use it."""
    found = read_manifest(path)
    manifest_notes(path)
    if found.train:
        draw(found, 1, 0)


TARGETS: dict[str, Callable[[], Target]] = {
    "files-manifest": partial(one, "manifest", ".parquet", write_both, manifest, PARQUET),
    "files-draw": partial(one, "draw", ".parquet", partial(write_draw, draw(manifest_of(), 1, 0)), drawn, PARQUET),
    "files-bank": partial(one, "bank", ".safetensors", write_bank, BankTokens.load, TENSORS),
    "files-scores": partial(one, "scores", ".safetensors", write_some_scores, evaluated, TENSORS),
    "files-masks": partial(one, "masks", ".safetensors", write_some_masks, masks_used, TENSORS),
    "files-record": partial(collected, "record", "{cell}/record.json", either(of_json, of_json, of_bytes)),
    "files-metrics": partial(collected, "metrics", "{cell}/metrics.parquet", PARQUET),
    "files-all-metrics": partial(collected, "all-metrics", "metrics.parquet", PARQUET),
    "files-runs": partial(collected, "runs", "runs.parquet", PARQUET),
    "files-efficiency": cost,
    "files-features": encoded,
}
