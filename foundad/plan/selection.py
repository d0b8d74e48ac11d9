"""What a run consists of: its cells, the files they need and the keys of their jobs. The Snakefile's only helper.

Everything here is names and small strings; it imports neither torch nor pandas and reads no file that has not changed: it
runs again at every start of the workflow.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

from foundad import config
from foundad.errors import UserError
from foundad.paths import Cell, Results
from foundad.plan.catalogue import (
    DEMO,
    FOLDER,
    Catalogue,
    check_run,
    load_catalogue,
    load_one,
    load_run,
)
from foundad.plan.keys import Keys, bank_id
from foundad.report.shown import Shown, Stage

TABLE_SUFFIXES = ("md", "tex", "csv", "html")
FIGURE_SUFFIXES = ("png", "pdf", "csv")


def method_of_bank(folder: Path, name: str, size: config.Size = DEMO) -> config.Method:
    """The method called ``name``, or one whose bank has the id ``name``."""
    if (folder / "methods" / f"{name}.yaml").is_file():
        return load_one(folder, "methods", name, size)
    for path in sorted((folder / "methods").glob("*.yaml")):
        method: config.Method = load_one(folder, "methods", path.stem, size)
        if bank_id(method) == name:
            return method
    raise UserError(f"{folder}/methods: no method is called '{name}' or has a bank of this id")


class Plan:
    """The run that ``values`` (the merged run config) describe."""

    def __init__(self, values: Mapping[str, Any], folder: Path = FOLDER, source: str | None = None) -> None:
        self.folder = folder
        source = source or str(folder / "config.yaml")
        self.run = load_run(values, source)
        self.catalogue: Catalogue = load_catalogue(folder, self.run.size)
        check_run(self.run, self.catalogue, source)
        self.results = Results(Path(self.run.results))
        self.skipped: dict[str, str] = {}
        self.experiments: list[config.Experiment] = []
        for name in dict.fromkeys(self.run.experiments):
            experiment = self.catalogue.experiments[name]
            absent = self._absent(experiment)
            if experiment.skip_if_absent and absent:
                self.skipped[name] = absent
            else:
                self.experiments.append(experiment)
        self.keys = Keys(self.catalogue, self.results, self.run, self.experiments)
        self._check_shots()

    @cached_property
    def cells(self) -> list[Cell]:
        """The distinct cells of all experiments that run."""
        selected = (self.catalogue.cells(experiment) for experiment in self.experiments)
        return list(dict.fromkeys(chain.from_iterable(selected)))

    @property
    def tables(self) -> list[Path]:
        """Every table file of every experiment that runs."""
        return [
            self.results.table(e.id, name, suffix)
            for e in self.experiments
            for name in e.tables
            for suffix in TABLE_SUFFIXES
        ]

    @property
    def figures(self) -> list[Path]:
        """Every figure file of every experiment that runs."""
        return [
            self.results.figure(e.id, name, suffix)
            for e in self.experiments
            for name in e.figures
            for suffix in FIGURE_SUFFIXES
        ]

    @property
    def overviews(self) -> list[Path]:
        """The overview figure of every dataset of the run."""
        names = dict.fromkeys(cell.dataset for cell in self.cells)
        return [self.results.overview(name, suffix) for name in names for suffix in FIGURE_SUFFIXES]

    # ------------------------------------------------------------------------------------------ inputs of a stage

    @property
    def options(self) -> list[str]:
        """What the run is to a command that computes keys itself."""
        versions = [f"--versions={name}={number}" for name, number in sorted(self.run.versions.items())]
        return [f"--precision={self.run.precision}", *["--compile"] * self.run.compile, *versions]

    def manifest_inputs(self, dataset: str) -> list[Path]:
        """The marker of a dataset that the workflow makes itself, else nothing."""
        generator = self.dataset(dataset).generator
        return [self.results.data(generator) / "SOURCE.md"] if generator else []

    def fit_inputs(self, cell: Cell) -> dict[str, Path]:
        """What the method of ``cell`` needs, by name."""
        method = self.method(cell.method)
        part = "truth" if "truth" in method.needs else "test"
        inputs = {"manifest": self.results.manifest(cell.dataset, part)}
        if "features" in method.needs:
            for view in ("", *method.bank.queries):
                inputs[f"features@{view}"] = self.results.features(cell.dataset, cell.encoder, view)
        if "bank" in method.needs:
            inputs["bank"] = self.results.bank(
                cell.dataset, cell.encoder, cell.shots, cell.seed, self.keys.bank_id(method)
            )
        if "images" in method.needs:
            inputs["draw"] = self.results.draw(cell.dataset, cell.shots, cell.seed)
        return inputs

    def table_inputs(self, experiment: str, name: str) -> list[Path]:
        """The files that a table reads."""
        settings = self.catalogue.experiments[experiment]
        return self._read(settings, settings.tables[name])

    def figure_inputs(self, experiment: str, name: str) -> list[Path]:
        """The files that a figure reads."""
        settings = self.catalogue.experiments[experiment]
        return self._read(settings, settings.figures[name])

    def _read(self, experiment: config.Experiment, shown: Shown) -> list[Path]:
        files: dict[Stage, Callable[[Sequence[Cell]], list[Path]]] = {
            "evaluate": lambda _: self._collected(experiment),
            "fit": self._scores,
            "observe": lambda cells: [self.results.observation(cell) for cell in cells],
            "efficiency": lambda cells: [self.results.efficiency(cell) for cell in cells],
        }
        reads = shown.reads(self.catalogue.cells(experiment))
        return [path for stage, cells in reads.items() for path in files[stage](cells)]

    def _collected(self, experiment: config.Experiment) -> list[Path]:
        """Metrics and records, and the manifests whose notes stand in captions."""
        datasets = dict.fromkeys(name for grid in experiment.cells for name in grid.datasets)
        notes = [path for name in datasets for path in (self.results.manifest(name), self.results.ledger(name))]
        return [self.results.metrics, self.results.runs, *notes]

    def _scores(self, cells: Sequence[Cell]) -> list[Path]:
        manifests = dict.fromkeys(self.results.manifest(cell.dataset, "truth") for cell in cells)
        return [*manifests, *(self.results.cell(cell) / "scores.safetensors" for cell in cells)]

    # ------------------------------------------------------------------------------------------ staleness

    def key(self, stage: str, *parts: object) -> str:
        """The key of a job, and of what it reads, as a rule's param and as the option ``--key`` of its command."""
        return str(self.keys.of(stage, *parts))

    # ------------------------------------------------------------------------------------------ lookups and checks

    def dataset(self, name: str) -> config.Dataset:
        """The dataset, or a UserError that names the nearest."""
        return self.keys.dataset(name)

    def encoder(self, name: str) -> config.Encoder:
        """The encoder, or a UserError that names the nearest."""
        return self.keys.encoder(name)

    def method(self, name: str) -> config.Method:
        """The method, or a UserError that names the nearest."""
        return self.keys.method(name)

    def _absent(self, experiment: config.Experiment) -> str:
        """Why a dataset of the experiment cannot be read, or nothing."""
        for name in dict.fromkeys(name for grid in experiment.cells for name in grid.datasets):
            dataset = self.catalogue.datasets[name]
            root = dataset.expanded_root
            if dataset.generator is None and root is not None and not root.is_dir():
                return f"dataset {name} is absent: there is no folder {dataset.root} (config/datasets/{name}.yaml, key root)"
        return ""

    def _check_shots(self) -> None:
        """More shots than normal images is known before anything runs, where the images are already here."""
        errors = []
        most: dict[str, tuple[int, str]] = {}
        for experiment in self.experiments:
            for grid in experiment.cells:
                for name in grid.datasets:
                    most[name] = max(most.get(name, (0, "")), (max(grid.shots), experiment.id))
        for name, (shots, experiment_id) in most.items():
            for category, available in self._normal_images(self.catalogue.datasets[name]).items():
                if available < shots:
                    errors.append(
                        f"config/experiments/{experiment_id}.yaml: key 'shots': {shots} is more than the {available} "
                        f"normal images of category '{category}' of dataset '{name}'"
                    )
        if errors:
            raise UserError("\n".join(errors))

    def _normal_images(self, dataset: config.Dataset) -> dict[str, int]:
        """Normal training images a category, where the folder is here and readable; the manifest reports the rest."""
        root = dataset.expanded_root
        return {} if root is None or not root.is_dir() else self.keys.contents(dataset.id).normal
