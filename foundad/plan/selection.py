"""What a run consists of: its cells, and the jobs that make them. The Snakefile's only helper.

Everything here is names and small strings; it imports neither torch nor pandas and reads no file that has not changed: it
runs again at every start of the workflow.
"""

from collections.abc import Iterable, Mapping
from functools import cached_property
from itertools import chain
from math import ceil
from pathlib import Path
from typing import Any

from foundad.cells import Cell
from foundad.config.dataset import Dataset
from foundad.config.experiment import Experiment
from foundad.config.run import Large
from foundad.errors import UserError
from foundad.paths import Results
from foundad.plan.batches import Batches
from foundad.plan.catalogue import FOLDER, Catalogue, check_run, load_catalogue, load_run
from foundad.plan.cost import Costs
from foundad.plan.keys import Keys
from foundad.plan.project import Project
from foundad.provenance import config_hash
from foundad.sealed import key_of
from foundad.stages.base import Stage
from foundad.stages.features import Features
from foundad.stages.registry import STAGES


class Plan:
    """The run that ``values`` (the merged run config) describe.

    Args:
        stored: a storage provider keeps the results, and brings jobs the files that they name.
        in_job: this is one job of a run that has been checked.

    Attributes:
        on_cluster: its jobs run on other machines.
        within: the batch whose jobs alone this call runs, or nothing.
    """

    on_cluster = False
    within = ""

    def __init__(
        self,
        values: Mapping[str, Any],
        folder: Path = FOLDER,
        source: str | None = None,
        stored: bool = False,
        in_job: bool = False,
    ) -> None:
        source = source or str(folder / "config.yaml")
        self.stored = stored
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
        self.costs = Costs(self.project, self.run)
        self.batches = Batches(self.project, self.costs, self.run.threads.batch)
        if stored:
            self._check_stored(source)
        if not in_job:  # it reads all data of the run
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
        """The files that a job reads; the marker of a batch for those that the batch makes."""
        if self.stored:
            return [str(path) for path in [*self.project.inputs(job).values(), *self._beside(job)]]
        if not self.batched:
            return [str(path) for path in self.project.inputs(job).values()]
        found = []
        for read in job.reads(self.project).values():
            maker = self.project.job(read)
            batch = self.batches.of_job.get(maker)
            found.append(str(self.project.path(read) if batch is None else self.batches.marker(batch)))
        return list(dict.fromkeys(found))

    def _beside(self, job: Stage) -> list[Path]:
        """What is read with features and lies beside them."""
        makers = map(self.project.job, job.reads(self.project).values())
        return [maker.writes(self.results)["facts"] for maker in makers if isinstance(maker, Features)]

    def temporary(self, kind: Large) -> bool:
        """Whether files of this kind go when the last job of this call has read them.

        Features that several batches read are deleted by the call that runs the batches, and by none of these.
        """
        if kind in self.run.kept:
            return False
        if kind == "features" and self.within:
            return self.batches.named(self.within).encodes
        return True

    def key(self, job: Stage) -> str:
        """The key of a job, and of what it reads, as a rule's param and as the option ``--key`` of its command."""
        return str(self.keys.of_job(job))

    def gpus(self, job: Stage) -> int:
        """How many GPUs a job takes; none where the run is on the CPU, and on a cluster where it does not ask for one."""
        return int(self._has_gpu and job.uses_gpu(self.project))

    @property
    def _has_gpu(self) -> bool:
        return self.costs.on_gpu if self.on_cluster else self.run.device != "cpu"

    def memory(self, job: Stage, attempt: int = 1) -> int:
        """Megabytes that a job asks for; twice as many at every further attempt."""
        return self.costs.memory(job) * 2 ** (attempt - 1)

    def minutes(self, job: Stage, attempt: int = 1) -> int:
        """Minutes that a job asks for; twice as many at every further attempt."""
        return _minutes(self.costs.seconds(job), attempt)

    def threads(self, stage: str) -> int:
        """Cores that a job of ``stage`` keeps busy."""
        return STAGES[stage].pattern().threads(self.run)

    # ------------------------------------------------------------------------------------------ batches

    @property
    def batched(self) -> bool:
        """Whether jobs carry many cells: on a cluster, and where large files are deleted after use."""
        everything = self.run.kept >= {"features", "banks", "models"}
        return not self.within and not self.stored and (self.on_cluster or not everything)

    def batch_inputs(self, name: str) -> list[str]:
        """The files that a batch reads and does not make: manifests, draws, and features that several batches read."""
        batch = self.batches.named(name)
        own = set(batch.jobs)
        reads = chain.from_iterable(job.reads(self.project).values() for job in batch.jobs)
        paths = (str(self.project.path(read)) for read in reads if self.project.job(read) not in own)
        return list(dict.fromkeys(paths))

    def batch_key(self, name: str) -> str:
        """Changes with the key of any of its jobs."""
        return config_hash([self.key(job) for job in self.batches.named(name).jobs])

    def batch_resources(self, name: str, attempt: int) -> dict[str, int]:
        """GPUs, megabytes, minutes, and gigabytes of files that are deleted when it ends."""
        batch = self.batches.named(name)
        return {
            "gpu": int(self._has_gpu),
            "mem_mb": batch.memory * 2 ** (attempt - 1),
            "runtime": _minutes(batch.seconds, attempt),
            "disk_gb": ceil(batch.held / 1e9),
        }

    @cached_property
    def missing_of_batch(self) -> list[str]:
        """The files of the batch that this call is within, but for those that are there with the key they must have.

        Snakemake would make a file anew where one that it was made of is made again, and that one is deleted after use.
        """
        jobs = self.batches.wanted(self.batches.named(self.within))
        return [str(path) for job in jobs if not self.is_done(job) for path in self._lasting(job)]

    def is_done(self, job: Stage) -> bool:
        """Whether all files of a job that stay are there and have its key."""
        return all(key_of(path) == self.keys.of_job(job).own for path in self._lasting(job))

    def forget_incomplete(self) -> None:
        """Delete the markers of batches whose files are not all there."""
        for batch in self.batches.all.values():
            marker = self.batches.marker(batch)
            files = chain.from_iterable(map(self._lasting, self.batches.wanted(batch)))
            if marker.exists() and not all(path.exists() for path in files):
                marker.unlink()

    def _lasting(self, job: Stage) -> list[Path]:
        """The files of a job but for a model that does not stay."""
        written = job.writes(self.results)
        return [path for name, path in written.items() if name != "model" or "models" in self.run.kept]

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

    def _files(self, jobs: Iterable[Stage]) -> list[str]:
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

    def _check_stored(self, source: str) -> None:
        """What a run does that leaves files to later jobs which no job names as its own."""
        gone = [kind for kind in ("features", "banks", "models") if self.temporary(kind)]
        if gone:
            raise UserError(
                f"{source}: key 'keep': a storage provider keeps every file; write keep: "
                f"{{{', '.join(f'{kind}: all' for kind in gone)}}}"
            )
        for name in dict.fromkeys(cell.dataset for cell in self.cells):
            generator = self.project.dataset(name).generator
            if generator:
                raise UserError(
                    f"config/datasets/{name}.yaml: key 'generator': a storage provider does not bring its pictures to jobs; "
                    f"make them with: foundad {generator} --results made, and write root: made/data/{generator} instead"
                )

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


def _minutes(seconds: float, attempt: int) -> int:
    """What to ask a cluster for: the cost model is good to a factor of two."""
    return ceil(5 + 2 * seconds / 60) * 2 ** (attempt - 1)
