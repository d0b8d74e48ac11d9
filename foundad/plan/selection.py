"""What a run consists of: its cells, and the jobs that make them. The Snakefile's only helper.

Everything here is names and small strings; it imports neither torch nor pandas and reads no file that has not changed: it
runs again at every start of the workflow.
"""

from collections.abc import Mapping
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

from foundad.cells import Cell
from foundad.config.dataset import Dataset
from foundad.config.experiment import Experiment
from foundad.errors import UserError
from foundad.paths import Results
from foundad.plan.catalogue import FOLDER, Catalogue, check_run, load_catalogue, load_run
from foundad.plan.keys import Keys
from foundad.plan.project import Project
from foundad.stages.base import Stage
from foundad.stages.registry import STAGES


class Plan:
    """The run that ``values`` (the merged run config) describe."""

    def __init__(self, values: Mapping[str, Any], folder: Path = FOLDER, source: str | None = None) -> None:
        source = source or str(folder / "config.yaml")
        self.run = load_run(values, source)
        self.catalogue: Catalogue = load_catalogue(folder, self.run.size)
        check_run(self.run, self.catalogue, source)
        self.results = Results(Path(self.run.results))
        self.skipped: dict[str, str] = {}
        for name in dict.fromkeys(self.run.experiments):
            absent = self._absent(self.catalogue.experiments[name])
            if self.catalogue.experiments[name].skip_if_absent and absent:
                self.skipped[name] = absent
        chosen = [name for name in dict.fromkeys(self.run.experiments) if name not in self.skipped]
        self.project = Project(folder, self.run.size, self.results, chosen, self.catalogue)
        self.keys = Keys(self.project, self.run)
        self._check_shots()

    @property
    def experiments(self) -> list[Experiment]:
        """Those that run."""
        return self.project.experiments

    @property
    def cells(self) -> list[Cell]:
        """The distinct cells of all experiments that run."""
        return self.project.cells

    @property
    def options(self) -> list[str]:
        """What the run is to a command that computes keys itself."""
        versions = [f"--versions={name}={number}" for name, number in sorted(self.run.versions.items())]
        return [f"--precision={self.run.precision}", *["--compile"] * self.run.compile, *versions]

    # ------------------------------------------------------------------------------------------ jobs

    def job(self, stage: str, **wildcards: str | int) -> Stage:
        """A job by the wildcards of its rule."""
        return STAGES[stage].of(**wildcards)

    def pattern(self, stage: str, **known: str) -> list[str]:
        """The outputs of a rule, wildcards in braces."""
        return [str(path) for path in STAGES[stage].pattern(**known).writes(self.results).values()]

    def inputs(self, job: Stage) -> list[str]:
        """The files that a job reads."""
        return [str(path) for path in self.project.inputs(job).values()]

    def key(self, job: Stage) -> str:
        """The key of a job, and of what it reads, as a rule's param and as the option ``--key`` of its command."""
        return str(self.keys.of_job(job))

    def gpus(self, job: Stage) -> int:
        """How many GPUs a job takes; none where the run is on the CPU."""
        return int(self.run.device != "cpu" and job.uses_gpu(self.project))

    def threads(self, stage: str) -> int:
        """Cores that a job of ``stage`` keeps busy."""
        return STAGES[stage].pattern().threads(self.run)

    # ------------------------------------------------------------------------------------------ targets

    @cached_property
    def tables(self) -> list[str]:
        """Every table file of every experiment that runs."""
        return self._files(
            self.job("table", experiment=e.id, table=name) for e in self.experiments for name in e.tables
        )

    @cached_property
    def figures(self) -> list[str]:
        """Every figure file of every experiment that runs."""
        jobs = (self.job("figure", experiment=e.id, figure=name) for e in self.experiments for name in e.figures)
        return self._files(jobs)

    @cached_property
    def overviews(self) -> list[str]:
        """The overview figure of every dataset of the run."""
        names = dict.fromkeys(cell.dataset for cell in self.cells)
        return self._files(self.job("overview", dataset=name) for name in names)

    def _files(self, jobs: Any) -> list[str]:
        return list(chain.from_iterable(map(str, job.writes(self.results).values()) for job in jobs))

    # ------------------------------------------------------------------------------------------ checks

    def _absent(self, experiment: Experiment) -> str:
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

    def _normal_images(self, dataset: Dataset) -> dict[str, int]:
        """Normal training images per category, where the folder is here and readable; the manifest reports the rest."""
        root = dataset.expanded_root
        return {} if root is None or not root.is_dir() else self.keys.contents(dataset.id).normal
