"""What ``foundad plan`` prints: cells, encoder passes, hours, jobs of a cluster, and disk under every policy."""

import shutil
from collections import Counter
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from foundad.cells import Cell
from foundad.plan.batches import Batch
from foundad.plan.cost import ASSUMED_TEST_IMAGES, CORE_RATE, GPU_RATE
from foundad.plan.selection import Plan
from foundad.stages.bank import Bank
from foundad.stages.base import Stage
from foundad.stages.features import Features
from foundad.stages.fit import Fit

GIGABYTE = 1e9
DISK = 50 * GIGABYTE  # that running jobs may hold together (profiles/slurm)
BATCH_START = 12.0  # seconds until the first job of a batch has begun: its Snakemake, then the processes that it forks
LARGE = ("features", "banks", "models", "scores")


def as_text(plan: Plan, workers: int = 8) -> str:
    """The outlook of ``plan``; wall time and peaks of disk are those of ``workers`` jobs (or cores) at a time."""
    lines = [f"{len(plan.cells)} cells of {len(plan.experiments)} experiments at size {plan.run.size}"]
    lines += [f"skipped: experiment {name}: {reason}" for name, reason in plan.skipped.items()]
    for axis in ("dataset", "encoder", "method"):
        lines += ["", *_counts(axis, plan.cells)]
    lines += [
        "",
        *_passes(plan),
        *_hours(plan),
        *_wall(plan, workers),
        *_jobs(plan),
        *_disk(plan, workers),
        *_assumed(plan),
    ]
    return "\n".join(lines)


def _counts(axis: str, cells: Iterable[Cell]) -> list[str]:
    counts = Counter(getattr(cell, axis) for cell in cells)
    width = max(map(len, counts))
    return [f"{axis + 's':<{width + 2}}  cells", *(f"  {name:<{width}}  {n:>5}" for name, n in counts.items())]


class Passes(NamedTuple):
    """Images that encoders see."""

    test: int
    banks: int
    fresh: int


def passes(plan: Plan) -> Passes:
    """Of test images once per encoder and query view, for banks, and while methods train."""
    jobs, costs = _all(plan), plan.costs
    return Passes(
        sum(costs.images(job.dataset).test for job in jobs if isinstance(job, Features)),
        sum(costs.passes(job) for job in jobs if isinstance(job, Bank)),
        sum(costs.fresh_passes(job) for job in jobs if isinstance(job, Fit)),
    )


def disk(plan: Plan) -> Counter[str]:
    """Bytes of all large files of the run: features, banks, models, scores."""
    total: Counter[str] = Counter()
    for job in _all(plan):
        total.update(plan.costs.disk(job))
    return total


def _passes(plan: Plan) -> list[str]:
    found = passes(plan)
    return [
        f"encoder passes  {found.test:,} test images, once per encoder and query view; {found.banks:,} for banks; "
        f"{found.fresh:,} for fresh pairs"
    ]


def _hours(plan: Plan) -> list[str]:
    """On the run's device, by encoder."""
    hours: dict[str, float] = {}
    for job in _all(plan):
        name = getattr(job, "encoder", "")
        hours[name] = hours.get(name, 0.0) + plan.costs.operations(job) / plan.costs.rate(job) / 3600
    total = sum(hours.values())
    device = (
        f"GPU hours       {total:.1f} at {GPU_RATE / 1e12:.0f} TFLOP/s"
        if plan.costs.on_gpu
        else f"CPU hours       {total:.1f} at {CORE_RATE / 1e9:.0f} GFLOP/s per core"
    )
    largest = ", ".join(f"{name} {value:.1f}" for name, value in sorted(hours.items(), key=lambda item: -item[1])[:8])
    return [f"{device}; the start of jobs, decoding and evaluation not counted", f"  by encoder    {largest}"]


def _wall(plan: Plan, workers: int) -> list[str]:
    hours, what = wall_seconds(plan, workers) / 3600, "jobs at a time" if plan.batched else "cores"
    return [f"wall time       {hours:.1f} hours with {workers} {what}, good to a factor of two"]


def _jobs(plan: Plan) -> list[str]:
    """Of a cluster, and how long they are."""
    batches = plan.batches
    lengths = sorted([batch.seconds for batch in batches.all.values()])
    before = [plan.costs.seconds(job) for job in batches.encoded_before]
    middle = lengths[len(lengths) // 2] / 60
    return [
        f"cluster         {len(lengths)} batches of cells, {lengths[0] / 60:.1f} to {lengths[-1] / 60:.0f} minutes (median "
        f"{middle:.0f}), and {len(before)} jobs of features alone; one machine: {len(_all(plan)):,} jobs"
    ]


def _disk(plan: Plan, workers: int) -> list[str]:
    """What all files would take, what stays, and the most that is there at a time."""
    total, kept = disk(plan), plan.run.kept
    final = sum(size for kind, size in total.items() if kind in kept)
    peak = peak_bytes(plan, workers)
    parts = ", ".join(f"{kind} {total[kind] / GIGABYTE:,.0f}" for kind in LARGE)
    lines = [
        f"disk            {peak / GIGABYTE:,.0f} GB at most with {workers} jobs at a time, {final / GIGABYTE:,.0f} GB at the "
        f"end: {', '.join(kind for kind in LARGE if kind in kept)} stay (key keep)",
        f"  all files     {total.total() / GIGABYTE:,.0f} GB: {parts}",
    ]
    free = free_bytes(plan.results.root)
    if free < peak:
        lines.append(
            f"  too small     {plan.results.root}: {free / GIGABYTE:,.0f} GB are free; keep less (key keep), run fewer jobs "
            "at a time, or set the key results to a folder on a larger disk"
        )
    return lines


def held_at_most(plan: Plan, workers: int) -> float:
    """The most bytes of files that do not stay: ``workers`` batches at a time in the order of the plan, and DISK at most."""
    return _simulated(plan, workers).held


def peak_bytes(plan: Plan, workers: int) -> float:
    """The most bytes of all large files at a time: what batches hold, and what stays of those that have run."""
    return _simulated(plan, workers).peak if plan.batched else float(disk(plan).total())


def wall_seconds(plan: Plan, workers: int) -> float:
    """Seconds from the first job to the last, all of every job counted.

    Args:
        workers: batches at a time, in the order of the plan; cores, where the run has no batches.
    """
    if plan.batched:
        before = sum(plan.costs.seconds(job) for job in plan.batches.encoded_before)
        return _simulated(plan, workers).seconds + before / workers
    lengths = [(plan.costs.seconds(job), min(workers, job.threads(plan.run))) for job in _all(plan)]
    return max(sum(seconds * threads for seconds, threads in lengths) / workers, max(lengths)[0])


class Simulated(NamedTuple):
    """A run in batches: the most bytes held and there in all at a time, and when the last batch ends."""

    held: float
    peak: float
    seconds: float


class Running(NamedTuple):
    """A batch that runs in a simulation."""

    end: float
    start: float
    batch: Batch

    def kept(self, now: float) -> float:
        """Bytes of its files that stay, written so far; they come evenly."""
        return self.batch.kept * (now - self.start) / (self.end - self.start)


def _simulated(plan: Plan, workers: int) -> Simulated:
    """``workers`` batches at a time in the order of the plan, and DISK at most; looked at whenever one starts or ends."""
    running: list[Running] = []
    most = peak = now = 0.0
    stays: float = sum(
        size
        for job in plan.batches.encoded_before
        for kind, size in plan.costs.disk(job).items()
        if kind in plan.run.kept
    )

    def look() -> None:
        nonlocal most, peak
        held = sum(one.batch.held for one in running)
        most, peak = max(most, held), max(peak, held + stays + sum(one.kept(now) for one in running))

    for batch in [*plan.batches.all.values(), None]:
        while running and (
            batch is None or len(running) >= workers or sum(one.batch.held for one in running) + batch.held > DISK
        ):
            first = min(running, key=lambda one: one.end)
            now = first.end
            look()
            running.remove(first)
            stays += first.batch.kept
        if batch is not None:
            running.append(Running(now + BATCH_START + batch.seconds, now, batch))
            look()
    return Simulated(most, peak, now)


def free_bytes(folder: Path) -> int:
    """Free bytes on the disk of a folder that may not be there yet."""
    there = folder.resolve()
    while not there.exists():
        there = there.parent
    return shutil.disk_usage(there).free


def _assumed(plan: Plan) -> list[str]:
    names = [name for name in dict.fromkeys(cell.dataset for cell in plan.cells) if plan.costs.images(name).assumed]
    if not names:
        return []
    return [
        f"assumed         {ASSUMED_TEST_IMAGES} test images per category of {', '.join(names)}: no counts in the YAML, no "
        "manifest yet"
    ]


def _all(plan: Plan) -> list[Stage]:
    """Every job of a batch, and the features that are made before."""
    return [*plan.batches.encoded_before, *chain.from_iterable(batch.jobs for batch in plan.batches.all.values())]
