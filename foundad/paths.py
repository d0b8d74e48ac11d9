"""The paths of all files of a run: one function per stage, shared by the workflow, the command line and the report.

It touches no file and imports nothing heavy, because the workflow calls it thousands of times.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from foundad.cells import Cell
    from foundad.config.dataset import Dataset

WHOLE = "whole"
PARTS = ("train", "test", "truth")  # parts of a manifest, each for stages that need no more
AS_IS = "as-is"  # name of the view of unchanged pictures
PATCH, CLASS = "patch", "class"  # names of what encoders give of a picture, each an array in a file of its own
TABLE_SUFFIXES = ("md", "tex", "csv", "html")
FIGURE_SUFFIXES = ("png", "pdf", "csv")


class Array(NamedTuple):
    """A named array of an encoder: the file that it lies in, and the key of the job that makes the file (empty: none)."""

    path: Path
    name: str = PATCH
    key: str = ""


@dataclass(frozen=True)
class Results:
    """The tree below the results folder."""

    root: Path

    def data(self, generator: str) -> Path:
        """Folder of a dataset that the workflow makes itself."""
        return self.root / "data" / generator

    def located(self, dataset: "Dataset") -> "Dataset":
        """``dataset`` with its root set; a dataset that the workflow makes itself lies below these results."""
        if dataset.generator is None:
            return dataset
        return dataset.model_copy(update={"root": str(self.data(dataset.generator))})

    def manifest(self, dataset: str, part: str = WHOLE) -> Path:
        """All rows of a dataset, or a part: ``train`` images, ``test`` images, or test images with ground ``truth``."""
        folder = self.root / "manifests"
        return folder / f"{dataset}.parquet" if part == WHOLE else folder / dataset / f"{part}.parquet"

    def hashes(self, name: str) -> Path:
        """Remembered hashes of a dataset's files or an encoder's weights; not an output of the workflow."""
        return self.root / "manifests" / f".{name}.hashes.json"

    def ledger(self, dataset: str) -> Path:
        """Files found, used and left out, and notes for readers; beside the manifest, whose bytes do not depend on it."""
        return self.root / "manifests" / f"{dataset}.ledger.json"

    def overview(self, dataset: str, suffix: str) -> Path:
        return self.root / "figures" / "datasets" / f"{dataset}.{suffix}"

    def again(self, dataset: str, part: str) -> Path:
        """The contents that a manifest was last tried on, so that a refused one is tried again only after a change."""
        return self.root / "manifests" / f".{dataset}-{part}.again"

    def checked(self, dataset: str) -> Path:
        """What earlier verifications found; not an output of the workflow."""
        return self.root / "manifests" / f".{dataset}.checked.json"

    def masks(self, dataset: str, side: int | str) -> Path:
        """The defective pixels of the test images at ``side`` x ``side`` pixels."""
        return self.root / "masks" / dataset / f"{side}.safetensors"

    def draw(self, dataset: str, shots: int | str, seed: int | str) -> Path:
        return self.root / "draws" / dataset / f"k{shots}-s{seed}.parquet"

    def features(self, dataset: str, encoder: str, view: str = AS_IS, array: str = PATCH) -> Path:
        """An array of all test images, unchanged or under a query view; a .json beside it says how it was made."""
        return self.root / "features" / dataset / encoder / f"{view}{_of_array(array)}.npy"

    def bank(
        self, dataset: str, encoder: str, shots: int | str, seed: int | str, bank: str, array: str = PATCH
    ) -> Path:
        name = f"k{shots}-s{seed}-{bank}{_of_array(array)}.safetensors"
        return self.root / "banks" / dataset / encoder / name

    @property
    def cells(self) -> Path:
        """Folder of all cells."""
        return self.root / "cells"

    def cell(self, cell: "Cell") -> Path:
        """Folder of model.safetensors, scores.safetensors, record.json and metrics.parquet."""
        return self.cells / str(cell)

    def record(self, cell: "Cell") -> Path:
        """Settings, versions, times and losses of the cell's fit."""
        return self.cell(cell) / "record.json"

    def cell_metrics(self, cell: "Cell") -> Path:
        """Every metric of one cell."""
        return self.cell(cell) / "metrics.parquet"

    def observation(self, cell: "Cell") -> Path:
        """How embeddings and the residual of the cell's projector respond to growing anomalies."""
        return self.root / "observations" / f"{cell}.parquet"

    def efficiency(self, cell: "Cell") -> Path:
        """What the cell's method costs on the machine that measured it."""
        return self.root / "efficiency" / f"{cell}.json"

    @property
    def metrics(self) -> Path:
        return self.root / "metrics.parquet"

    @property
    def runs(self) -> Path:
        return self.root / "runs.parquet"

    def table(self, experiment: str, name: str, suffix: str) -> Path:
        return self.root / "tables" / experiment / f"{name}.{suffix}"

    def figure(self, experiment: str, name: str, suffix: str) -> Path:
        return self.root / "figures" / experiment / f"{name}.{suffix}"

    @property
    def report(self) -> Path:
        """The page of the whole study."""
        return self.root / "report" / "index.html"


def _of_array(array: str) -> str:
    """What the name of a file says about its array; nothing about patch tokens."""
    return "" if array == PATCH else f".{array}"
