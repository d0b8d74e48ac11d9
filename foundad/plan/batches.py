"""Groups the jobs of a run into batches. One cluster job runs one batch.

A cluster job waits for minutes and takes seconds to start, and a cell may take less than that. A batch is a set of
jobs: features, banks, cells, and measurements of cells. One cluster job runs the batch with its own Snakemake, which
runs the missing jobs. Cells that share features or a bank stay together, so nothing is encoded twice.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path

from foundad.cells import Cell
from foundad.errors import UserError
from foundad.names import nearest
from foundad.plan.cost import Costs
from foundad.plan.project import Project
from foundad.stages.base import CellStage, Stage
from foundad.stages.features import Features
from foundad.stages.masks import Masks
from foundad.stages.registry import STAGES

LONGEST = 60 * 60.0  # estimated seconds of a batch, at most; a single cell may exceed it
WANTED = 30 * 60.0  # estimated seconds; shorter parts are joined
MOST_HELD = 25e9  # bytes that joined datasets may hold at the same time
STAGES_IN_BATCHES = ("features", "bank", "fit", "evaluate", "observe", "efficiency")


@dataclass(frozen=True)
class Batch:
    """Jobs that one cluster job runs.

    Attributes:
        id: encoder, dataset and, if the dataset is split, a number.
        jobs: all jobs; a job comes after the jobs whose files it reads.
        encodes: whether the batch makes the features that its cells read. If not, jobs of their own make them before,
            and several batches read them.
        seconds: wall time by the cost model.
        memory: megabytes by the cost model.
        held: largest number of bytes at one time of files that are deleted after use, features made before included.
        kept: bytes of the files that stay.
    """

    id: str
    jobs: tuple[Stage, ...]
    encodes: bool
    seconds: float
    memory: int
    held: float
    kept: float = 0.0

    @property
    def cells(self) -> list[Cell]:
        """The cells that the batch fits."""
        return [job.cell for job in self.jobs if isinstance(job, CellStage) and job.name == "fit"]


class Batches:
    """The batches of a run. The same config always gives the same batches.

    Args:
        project: the project; its chosen experiments give the cells.
        costs: the costs of the jobs.
        threads: number of cores per batch.
    """

    def __init__(self, project: Project, costs: Costs, threads: int) -> None:
        self.project, self.costs, self.threads = project, costs, threads

    @cached_property
    def all(self) -> dict[str, Batch]:
        """All batches by id, one encoder after the other."""
        encoders: dict[str, dict[str, list[Cell]]] = {}
        for cell in self.project.cells:
            encoders.setdefault(cell.encoder, {}).setdefault(cell.dataset, []).append(cell)
        found: list[Batch] = []
        for datasets in encoders.values():
            small: list[list[Stage]] = []
            for cells in datasets.values():
                jobs = self._with_all(cells)
                if self.seconds(jobs) <= LONGEST:
                    small.append(jobs)
                else:
                    found += self._split(cells)
            found += self._joined(small)
        return {batch.id: batch for batch in found}

    @cached_property
    def of_job(self) -> dict[Stage, Batch]:
        """The batch of each job that is in one."""
        return {job: batch for batch in self.all.values() for job in batch.jobs}

    @cached_property
    def made_before(self) -> list[Features | Masks]:
        """The masks, and the features that several batches read. Jobs of their own make them before the batches."""
        reads = chain.from_iterable(self.read_before(batch) for batch in self.all.values())
        return [job for job in dict.fromkeys(reads) if isinstance(job, Features | Masks)]

    def named(self, name: str) -> Batch:
        """The batch with this id.

        Raises:
            UserError: there is no such batch; the message suggests the nearest id.
        """
        if name not in self.all:
            raise UserError(f"there is no batch '{name}'{nearest(name, self.all)}")
        return self.all[name]

    def marker(self, batch: Batch) -> Path:
        """The file that marks a batch as done."""
        return self.project.results.root / "batches" / f"{batch.id}.done"

    def wanted(self, batch: Batch) -> list[Stage]:
        """The jobs of a batch whose files are read outside the batch."""
        return [job for job in batch.jobs if job.name not in ("features", "bank")]

    def read_before(self, batch: Batch) -> list[Stage]:
        """The jobs outside a batch whose files it reads: manifests, draws, masks, and features that several batches read."""
        own = set(batch.jobs)
        found = chain.from_iterable(self._before(job) for job in batch.jobs)
        return [job for job in dict.fromkeys(found) if job not in own]

    def seconds(self, jobs: Iterable[Stage]) -> float:
        """Estimated wall time in seconds of a batch of ``jobs``.

        With a GPU, jobs that use it run one after the other, and one core serves them; the others share the remaining
        cores at the same time. Without a GPU, all jobs share all cores.
        """
        on_device = on_cores = 0.0
        for job in jobs:
            if self.costs.on_gpu and job.uses_gpu(self.project):
                on_device += self.costs.seconds(job)
            else:
                on_cores += self.costs.seconds(job) * job.threads(self.costs.run)
        if on_device:
            return max(on_device, on_cores / max(1, self.threads - 1))
        return on_cores / self.threads

    # ------------------------------------------------------------------------------------------ parts

    def _joined(self, parts: Iterable[list[Stage]]) -> Iterator[Batch]:
        """Batches of the short datasets of one encoder. They are joined until a batch is long enough."""
        for group in self._packed(parts):
            yield self._batch(list(chain.from_iterable(group)), encodes=True, number=None)

    def _split(self, cells: Sequence[Cell]) -> Iterator[Batch]:
        """Several batches for one dataset and encoder. Their features are made before."""
        draws: dict[tuple[int, int], list[Cell]] = {}
        for cell in cells:
            draws.setdefault((cell.shots, cell.seed), []).append(cell)
        parts: list[list[Stage]] = []
        for drawn in draws.values():
            jobs = self._without_features(drawn)
            parts += [jobs] if self.seconds(jobs) <= LONGEST else self._by_bank(drawn)
        for number, group in enumerate(self._packed(parts), 1):
            yield self._batch(list(chain.from_iterable(group)), encodes=False, number=number)

    def _by_bank(self, cells: Sequence[Cell]) -> list[list[Stage]]:
        """The jobs of one draw, grouped by the bank that they read. A cell that reads no bank is its own group."""
        banks: dict[str, list[Cell]] = {}
        for cell in cells:
            method = self.project.method(cell.method)
            name = self.project.bank_id(method) if "bank" in method.needs else f"alone {cell}"
            banks.setdefault(name, []).append(cell)
        return [self._without_features(group) for group in banks.values()]

    def _packed(self, parts: Iterable[list[Stage]]) -> Iterator[list[list[Stage]]]:
        """``parts`` in order, in groups of about ``WANTED`` seconds.

        A group takes at most ``LONGEST`` seconds and holds at most ``MOST_HELD`` bytes, unless it is a single part.
        """
        group: list[list[Stage]] = []
        length = 0.0
        for part in parts:
            seconds = self.seconds(part)
            full = length >= WANTED or length + seconds > LONGEST
            if group and (full or self._held(chain.from_iterable([*group, part])) > MOST_HELD):
                yield group
                group, length = [], 0.0
            group.append(part)
            length += seconds
        if group:
            yield group

    def _batch(self, jobs: list[Stage], encodes: bool, number: int | None) -> Batch:
        first = next(job for job in jobs if isinstance(job, CellStage))
        name = f"{first.encoder}.{first.dataset}" + ("" if number is None else f".{number}")
        memory = max(map(self.costs.memory, jobs)) + (self.threads - 1) * max(
            (self.costs.memory(job) for job in jobs if job.name == "evaluate"), default=0
        )
        read = [] if encodes else self._features_of(jobs)
        kept = sum(
            sum(size for kind, size in self.costs.disk(job).items() if kind in self.costs.run.kept) for job in jobs
        )
        return Batch(name, tuple(jobs), encodes, self.seconds(jobs), memory, self._held([*jobs, *read]), kept)

    def _features_of(self, jobs: Iterable[Stage]) -> list[Stage]:
        """The features that ``jobs`` read."""
        found = chain.from_iterable(self._before(job) for job in jobs)
        return [job for job in dict.fromkeys(found) if isinstance(job, Features)]

    def _held(self, jobs: Iterable[Stage]) -> float:
        """Bytes of files of ``jobs`` that are deleted after use and exist at the same time.

        These are all features, and the two largest banks and models (one of each on one core).
        """
        sizes: dict[str, list[int]] = {}
        for job in jobs:
            for kind, size in self.costs.disk(job).items():
                if kind not in self.costs.run.kept:
                    sizes.setdefault(kind, []).append(size)
        few = min(2, self.threads)
        return sum(sizes.pop("features", [])) + sum(sum(sorted(found)[-few:]) for found in sizes.values())

    # ------------------------------------------------------------------------------------------ jobs

    def _with_all(self, cells: Iterable[Cell]) -> list[Stage]:
        """The jobs of ``cells`` and all jobs behind them that a batch may run."""
        found: dict[Stage, None] = {}
        for cell in cells:
            for job in self._of_cell(cell):
                self._collect(job, found)
        return list(found)

    def _without_features(self, cells: Iterable[Cell]) -> list[Stage]:
        return [job for job in self._with_all(cells) if not isinstance(job, Features)]

    def _collect(self, job: Stage, found: dict[Stage, None]) -> None:
        for before in self._before(job):
            if before.name in STAGES_IN_BATCHES and before not in found:
                self._collect(before, found)
        found[job] = None

    def _before(self, job: Stage) -> list[Stage]:
        return [self.project.job(read) for read in job.reads(self.project).values()]

    def _of_cell(self, cell: Cell) -> list[Stage]:
        wildcards = tuple(vars(cell).values())
        return [STAGES["evaluate"](*wildcards), *self._measured.get(cell, [])]

    @cached_property
    def _measured(self) -> dict[Cell, list[Stage]]:
        """For each cell, the jobs whose measurements tables and figures show: observations and efficiency."""
        found: dict[Cell, dict[Stage, None]] = {}
        for experiment in self.project.experiments:
            for spec in chain(experiment.tables.values(), experiment.figures.values()):
                for read in self.project.read_by(experiment.id, spec).values():
                    if read.stage in ("observe", "efficiency"):
                        job = self.project.job(read)
                        assert isinstance(job, CellStage)
                        found.setdefault(job.cell, {})[job] = None
        return {cell: list(jobs) for cell, jobs in found.items()}
