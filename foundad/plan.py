"""What a run consists of: its cells, the files they need and the hashes that make them stale. The Snakefile's only helper.

Everything here is names and small strings, computed from the catalogue alone; it imports neither torch nor pandas and
reads no image, because it runs again at every start of the workflow.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

from foundad import config, registry
from foundad.catalogue import (
    DEMO,
    FOLDER,
    Catalogue,
    check_run,
    chosen_cells,
    load_catalogue,
    load_one,
    load_run,
    measured_cells,
    named_cells,
    nearest,
)
from foundad.errors import UserError
from foundad.files import sha256
from foundad.paths import Cell, Results
from foundad.provenance import config_hash, source_hash
from foundad.report.published import FILES as PUBLISHED

TABLE_SUFFIXES = ("md", "tex", "csv", "html")
FIGURE_SUFFIXES = ("png", "pdf", "csv")
# Files that no import leads to: the page is made of them.
PAGE = tuple(Path(__file__).parent / "report/page" / name for name in ("template.html", "page.css", "page.js"))
# What people read and no number depends on: changing it reruns the report alone.
DESCRIPTIVE = {"title", "licence", "source", "control", "draws", "download"}


def bank_id(method: config.Method) -> str:
    """Names the bank a method reads: methods with equal ``bank`` sections share one."""
    return config_hash(config.dump(method.bank))[:8]


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
        self._keys: dict[tuple[str, tuple[str, ...]], str] = {}
        self._bank_ids: dict[str, str] = {}
        self.experiments: list[config.Experiment] = []
        for name in dict.fromkeys(self.run.experiments):
            experiment = self.catalogue.experiments[name]
            absent = self._absent(experiment)
            if experiment.skip_if_absent and absent:
                self.skipped[name] = absent
            else:
                self.experiments.append(experiment)
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

    def manifest_inputs(self, dataset: str) -> list[Path]:
        """The marker of a dataset that the workflow makes itself, else nothing."""
        generator = self.dataset(dataset).generator
        return [self.results.data(generator) / "SOURCE.md"] if generator else []

    def fit_inputs(self, cell: Cell) -> dict[str, Path]:
        """What the method of ``cell`` needs, by name."""
        method = self.method(cell.method)
        inputs = {"manifest": self.results.manifest(cell.dataset)}
        if "features" in method.needs:
            for view in ("", *method.bank.queries):
                inputs[f"features@{view}"] = self.results.features(cell.dataset, cell.encoder, view)
        if "bank" in method.needs:
            inputs["bank"] = self.results.bank(cell.dataset, cell.encoder, cell.shots, cell.seed, self._bank_id(method))
        if "images" in method.needs:
            inputs["draw"] = self.results.draw(cell.dataset, cell.shots, cell.seed)
        return inputs

    def table_inputs(self, experiment: str, name: str) -> list[Path]:
        """What a table reads: the collected metrics, or what was measured of its cells."""
        settings = self.catalogue.experiments[experiment]
        table = settings.tables[name]
        if isinstance(table, config.EfficiencyTable):
            return [
                self.results.efficiency(cell) for cell in measured_cells(self.catalogue.cells(settings), table.where)
            ]
        return [self.results.metrics, self.results.runs]

    def figure_inputs(self, experiment: str, name: str) -> list[Path]:
        """What a figure reads: the collected metrics, the scores of cells, or what was observed."""
        settings = self.catalogue.experiments[experiment]
        figure = settings.figures[name]
        if isinstance(figure, config.GalleryFigure):
            return self._scores(named_cells(figure))
        if isinstance(figure, config.TopKFigure):
            return self._scores(chosen_cells(self.catalogue.cells(settings), figure.where))
        if isinstance(figure, config.ObservationFigure):
            return [self.results.observation(cell) for cell in named_cells(figure)]
        return [self.results.metrics, self.results.runs]

    def _scores(self, cells: Sequence[Cell]) -> list[Path]:
        manifests = dict.fromkeys(self.results.manifest(cell.dataset) for cell in cells)
        return [*manifests, *(self.results.cell(cell) / "scores.safetensors" for cell in cells)]

    # ------------------------------------------------------------------------------------------ staleness

    def key(self, stage: str, *parts: str) -> str:
        """Hash of the sources and of the resolved config that ``stage`` depends on; ``parts`` are its wildcards."""
        if (stage, parts) not in self._keys:  # thousands of jobs share a few dozen of them
            sources, settings = source_hash(*self._modules(stage, *parts)), config_hash(self._config(stage, *parts))
            self._keys[stage, parts] = f"{sources}-{settings}"
        return self._keys[stage, parts]

    def _modules(self, stage: str, *parts: str) -> tuple[str, ...]:
        if stage == "fit":
            return ("foundad.fit", registry.detectors()[self.method(parts[2]).detector][0])
        modules = {
            "textures": "foundad.data.textures",
            "manifest": "foundad.data.verify",
            "draw": "foundad.data.draws",
            "tables": "foundad.report.tables",
            "figures": "foundad.report.figures",
            "overview": "foundad.report.overview",
            "report": "foundad.report.page",
            "observe": "foundad.observation",
            "efficiency": "foundad.efficiency",
        }
        return (modules.get(stage, f"foundad.{stage}"),)

    def _config(self, stage: str, *parts: str) -> Any:
        if stage == "manifest":
            from foundad.data.fingerprint import fingerprint

            dataset = self.dataset(parts[0])
            return [self._resolved(dataset), "" if dataset.generator else fingerprint(dataset)]
        if stage == "draw":
            dataset = self.dataset(parts[0])
            return (
                sha256(dataset.expanded_draws) if dataset.draws and dataset.expanded_draws.is_file() else dataset.draws
            )
        if stage == "overview":
            return self.dataset(parts[0]).title
        if stage == "features":
            name, _, query = parts[1].partition("@")
            return [self._resolved(self.encoder(name)), *self._arithmetic] + [query] * bool(query)
        if stage in ("observe", "efficiency"):
            return [self._resolved(self.encoder(parts[1])), self.run.precision]
        if stage == "bank":
            return [self._resolved(self.encoder(parts[1])), self._banks[parts[2]], *self._arithmetic]
        if stage == "evaluate":
            return [self.encoder(parts[0]).image_size, self.method(parts[1]).smoothing]
        if stage == "fit":
            top_k = self.dataset(parts[0]).top_k
            encoder, method = self.encoder(parts[1]), self.method(parts[2])
            return [top_k, self._resolved(encoder), self._resolved(method), *self._arithmetic]
        if stage == "collect":
            return [str(cell) for cell in self.cells]
        if stage in ("tables", "figures"):
            return self._report_config(stage, *parts)
        if stage == "report":
            shown = [self._page_config(experiment) for experiment in self.experiments]
            return [[sha256(path) for path in PAGE], shown]
        return None

    def _bank_id(self, method: config.Method) -> str:
        if method.id not in self._bank_ids:
            self._bank_ids[method.id] = bank_id(method)
        return self._bank_ids[method.id]

    @cached_property
    def _banks(self) -> dict[str, Any]:
        """The resolved ``bank`` sections by their ids."""
        return {bank_id(method): config.dump(method.bank) for method in self.catalogue.methods.values()}

    @property
    def _arithmetic(self) -> list[Any]:
        """What the last bits of tokens and models depend on, beside the sources and the config of a thing."""
        return [self.run.precision, self.run.compile]

    def _resolved(self, model: config.Strict) -> dict[str, Any]:
        return {key: value for key, value in config.dump(model).items() if key not in DESCRIPTIVE}

    def _report_config(self, stage: str, experiment: str, name: str) -> Any:
        settings = self.catalogue.experiments[experiment]
        catalogue = self.catalogue
        titles = {
            kind: {
                key: value.label if isinstance(value, config.Method) else value.title
                for key, value in getattr(catalogue, kind).items()
                if key in self._named(settings, kind)
            }
            for kind in ("datasets", "encoders", "methods")
        }
        reference = [sha256(path) for path in PUBLISHED if path.is_file()] if stage == "tables" else []
        return [
            reference,
            config.dump(getattr(settings, stage)[name]),
            [config.dump(grid) for grid in settings.cells],
            titles,
        ]

    def _page_config(self, experiment: config.Experiment) -> Any:
        """What the page prints of an experiment: itself, and titles, licences and sources of what it names."""
        return [
            config.dump(experiment),
            {
                kind: [
                    config.dump(getattr(self.catalogue, kind)[name]) for name in sorted(self._named(experiment, kind))
                ]
                for kind in ("datasets", "encoders", "methods")
            },
        ]

    def _named(self, experiment: config.Experiment, kind: str) -> set[str]:
        return {name for grid in experiment.cells for name in getattr(grid, kind)}

    # ------------------------------------------------------------------------------------------ lookups and checks

    def dataset(self, name: str) -> config.Dataset:
        """The dataset, or a UserError that names the nearest."""
        return self._lookup("datasets", name)

    def encoder(self, name: str) -> config.Encoder:
        """The encoder, or a UserError that names the nearest."""
        return self._lookup("encoders", name)

    def method(self, name: str) -> config.Method:
        """The method, or a UserError that names the nearest."""
        return self._lookup("methods", name)

    def _lookup(self, kind: str, name: str) -> Any:
        known = getattr(self.catalogue, kind)
        if name not in known:
            raise UserError(f"config/{kind}: there is no '{name}'{nearest(name, known)}")
        return known[name]

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
        if root is None or not root.is_dir():
            return {}
        from foundad.data.fingerprint import count_normal

        try:
            return count_normal(dataset)
        except (UserError, OSError):
            return {}
