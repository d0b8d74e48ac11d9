"""The plan of a run: its cells and the jobs that make them. The Snakefile uses only this module.

It runs at every start of the workflow, so it must be fast. It handles names and short strings, it does not import torch
or pandas, and it does not read files again that have not changed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
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
from foundad.paths import PATCH, Results
from foundad.plan.batches import Batches
from foundad.plan.catalogue import FOLDER, Catalogue, check_run, load_catalogue, load_run
from foundad.plan.cost import Costs
from foundad.plan.keys import Keys
from foundad.plan.project import Project
from foundad.provenance import config_hash
from foundad.sealed import key_of
from foundad.stages.bank import Bank
from foundad.stages.base import Stage
from foundad.stages.features import Features
from foundad.stages.registry import STAGES
from foundad.stored import finished_cells


class Plan:
    """The plan of one run.

    Args:
        values: the merged run config.
        folder: the config folder.
        source: where the values come from; error messages start with it. The default is config.yaml in ``folder``.
        stored: whether a storage provider keeps the results and brings each job the files that it names.
        in_job: whether this is a job of a run that has been checked already.

    Attributes:
        on_cluster: whether the jobs run on other machines.
        within: id of the batch if this call runs only the jobs of that batch; otherwise empty.

    Raises:
        UserError: the config is wrong; one line for each error.
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
        if not in_job:  # the check reads all data of the run
            self._check_shots()

    @property
    def experiments(self) -> list[Experiment]:
        """The experiments that run. Skipped ones are not among them."""
        return self.project.experiments

    @property
    def cells(self) -> list[Cell]:
        """The distinct cells of all experiments that run."""
        return self.project.cells

    @property
    def options(self) -> list[str]:
        """Command-line options that describe the run to a command that computes keys itself."""
        versions = [f"--versions={name}={number}" for name, number in sorted(self.run.versions.items())]
        return [f"--precision={self.run.precision}", *["--compile"] * self.run.compile, *versions]

    # ------------------------------------------------------------------------------------------ jobs

    def job(self, stage: str, **wildcards: str | int) -> Stage:
        """The job of ``stage`` with these wildcards."""
        return STAGES[stage].of(**wildcards)

    def pattern(self, stage: str, **known: str) -> list[str]:
        """The output paths of a rule, with wildcards in braces."""
        return [str(path) for path in STAGES[stage].pattern(**known).writes(self.results).values()]

    def inputs(self, job: Stage) -> list[str]:
        """The files that a job reads. The marker of a batch stands for all files that the batch makes.

        A job of a batch has the files themselves: outside its batch it runs only if somebody asks for one of its files.
        """
        if self.stored:
            return [str(path) for path in [*self.project.inputs(job).values(), *self._facts(job)]]
        if not self.batched or job in self.batches.of_job:
            return [str(path) for path in self.project.inputs(job).values()]
        found = []
        for read in job.reads(self.project).values():
            maker = self.project.job(read)
            batch = self.batches.of_job.get(maker)
            found.append(str(self.project.path(read) if batch is None else self.batches.marker(batch)))
        return list(dict.fromkeys(found))

    def _facts(self, job: Stage) -> list[Path]:
        """The files that are stored beside features and read with them."""
        makers = map(self.project.job, job.reads(self.project).values())
        return [maker.writes(self.results)["facts"] for maker in makers if isinstance(maker, Features)]

    def temporary(self, kind: Large) -> bool:
        """Whether files of this kind are deleted when the last job of this call has read them.

        If several batches read the same features, only the call that runs the batches deletes them.
        """
        if kind in self.run.kept:
            return False
        if kind == "features" and self.within:
            return self.batches.named(self.within).encodes
        return True

    def arrays(self, job: Features | Bank) -> str:
        """Options that name the array of ``job``, or further ones that the run wants of the same pictures, with their keys.

        With torch.compile every array has a pass of its own: bits of patch tokens could depend on what else is computed.
        """
        if job.array != PATCH:
            return f"--array {job.array}"
        wanted = [] if self.run.compile else self._further.get(job, [])
        return " ".join(f"--beside {other.array}={self.keys.of_job(other).own}" for other in wanted)

    @cached_property
    def _further(self) -> dict[Stage, list[Features | Bank]]:
        """The jobs of patch tokens, each with the jobs of the run that make further arrays of the same pictures."""
        found: dict[Stage, list[Features | Bank]] = {}
        reads = (self.job("fit", **vars(cell)).reads(self.project).values() for cell in self.cells)
        for job in dict.fromkeys(map(self.project.job, chain.from_iterable(reads))):
            if isinstance(job, Features | Bank) and job.array != PATCH:
                found.setdefault(replace(job, array=PATCH), []).append(job)
        return found

    def key(self, job: Stage) -> str:
        """The keys of a job and of its inputs as text: the param of its rule and option ``--key`` of the command."""
        return str(self.keys.of_job(job))

    @cached_property
    def beside(self) -> str:
        """A hash of the finished cells of the results folder that this run does not select, with the keys in their files.

        It is a param of the rule ``collect``, which gathers them as well: it changes when they come, change or go. Empty
        with a storage provider, whose jobs find only the files that they name.
        """
        if self.stored:
            return ""
        selected = set(self.cells)
        others = (cell for cell in finished_cells(self.results) if cell not in selected)
        files = ((cell, self.results.record(cell), self.results.cell_metrics(cell)) for cell in others)
        return config_hash([[str(cell), key_of(record), key_of(metrics)] for cell, record, metrics in files])

    def gpus(self, job: Stage) -> int:
        """Number of GPUs that a job takes: 0 or 1. On a cluster it is 0 unless the run config names a GPU."""
        return int(self._has_gpu and job.uses_gpu(self.project))

    @property
    def _has_gpu(self) -> bool:
        return self.costs.on_gpu if self.on_cluster else self.run.device != "cpu"

    def memory(self, job: Stage, attempt: int = 1) -> int:
        """Megabytes that a job asks for, doubled at each further attempt."""
        return self.costs.memory(job) * 2 ** (attempt - 1)

    def minutes(self, job: Stage, attempt: int = 1) -> int:
        """Minutes that a job asks for, doubled at each further attempt."""
        return _minutes(self.costs.seconds(job), attempt)

    def threads(self, stage: str) -> int:
        """Number of cores that a job of ``stage`` keeps busy."""
        return STAGES[stage].pattern().threads(self.run)

    # ------------------------------------------------------------------------------------------ batches

    @property
    def batched(self) -> bool:
        """Whether a job runs a batch of cells: on a cluster, and if large files are deleted after use."""
        everything = self.run.kept >= {"features", "banks", "models"}
        return not self.within and not self.stored and (self.on_cluster or not everything)

    def batch_inputs(self, name: str) -> list[str]:
        """The files that a batch reads but does not make: manifests, draws, masks, and features that several batches read."""
        batch = self.batches.named(name)
        own = set(batch.jobs)
        reads = chain.from_iterable(job.reads(self.project).values() for job in batch.jobs)
        paths = (str(self.project.path(read)) for read in reads if self.project.job(read) not in own)
        return list(dict.fromkeys(paths))

    def batch_key(self, name: str) -> str:
        """A hash of the keys of all jobs of a batch."""
        return config_hash([self.key(job) for job in self.batches.named(name).jobs])

    def batch_resources(self, name: str, attempt: int) -> dict[str, int]:
        """The resources that a batch asks for.

        ``gpu`` is a number of GPUs, ``mem_mb`` megabytes of memory, ``runtime`` minutes, and ``disk_gb`` gigabytes of
        files that are deleted when the batch ends. Memory and minutes double at each further attempt.
        """
        batch = self.batches.named(name)
        return {
            "gpu": int(self._has_gpu),
            "mem_mb": batch.memory * 2 ** (attempt - 1),
            "runtime": _minutes(batch.seconds, attempt),
            "disk_gb": ceil(batch.held / 1e9),
        }

    @cached_property
    def missing_of_batch(self) -> list[str]:
        """The files that the current batch still has to make. Files that exist with the right key are left out.

        If they were targets, Snakemake would remake their inputs, which are deleted after use, and then the files too.
        """
        jobs = self.batches.wanted(self.batches.named(self.within))
        return [str(path) for job in jobs if not self.is_done(job) for path in self._lasting(job)]

    def is_done(self, job: Stage) -> bool:
        """Whether all lasting files of a job exist and have its key."""
        return all(key_of(path) == self.keys.of_job(job).own for path in self._lasting(job))

    @property
    def markers(self) -> list[str]:
        """The markers of all batches of the run; none where no job runs a batch."""
        return [str(self.batches.marker(batch)) for batch in self.batches.all.values()] if self.batched else []

    def forget_incomplete(self) -> None:
        """Delete the markers of batches that lack a file."""
        for batch in self.batches.all.values():
            marker = self.batches.marker(batch)
            files = chain.from_iterable(map(self._lasting, self.batches.wanted(batch)))
            if marker.exists() and not all(path.exists() for path in files):
                marker.unlink()

    def _lasting(self, job: Stage) -> list[Path]:
        """The files of a job, without the model if models are deleted after use."""
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
        """Why a dataset of the experiment cannot be read; empty if all can."""
        for name in dict.fromkeys(name for grid in experiment.cells for name in grid.datasets):
            dataset = self.catalogue.datasets[name]
            root = dataset.expanded_root
            if dataset.generator is None and root is not None and not root.is_dir():
                return f"dataset {name} is absent: there is no folder {dataset.root} (config/datasets/{name}.yaml, key root)"
        return ""

    def _check_stored(self, source: str) -> None:
        """Refuse a run with a storage provider if it deletes files after use or makes a dataset."""
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
        """Refuse a run that asks for more shots than a category has normal images.

        This works only for images that are on this machine. The stage draw checks the others.
        """
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
        """Number of normal training images per category. Empty without a folder, which the manifest then reports."""
        root = dataset.expanded_root
        return {} if root is None or not root.is_dir() else self.keys.contents(dataset.id).normal


def _minutes(seconds: float, attempt: int) -> int:
    """Minutes to ask a cluster for, doubled at each further attempt.

    The first attempt asks for five minutes plus twice the estimate, which is right to within a factor of two.
    """
    return ceil(5 + 2 * seconds / 60) * 2 ** (attempt - 1)
