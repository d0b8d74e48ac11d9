"""The text that ``foundad plan`` prints: cells, encoder passes, hours, cluster jobs, and bytes on disk."""

import shutil
from collections import Counter
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from foundad.cells import Cell
from foundad.paths import PARTS
from foundad.plan.batches import Batch
from foundad.plan.cost import ASSUMED_TEST_IMAGES, CORE_RATE, GPU_RATE
from foundad.plan.selection import Plan
from foundad.stages.bank import Bank
from foundad.stages.base import Stage
from foundad.stages.features import Features
from foundad.stages.fit import Fit

GIGABYTE = 1e9
BATCH_START = 12.0  # seconds until the first job of a batch starts: Snakemake and then the warm processes start
LARGE = ("features", "banks", "models", "scores", "masks")


class Room(NamedTuple):
    """What a run has at a time.

    workers: cluster jobs, or without batches GPUs or cores. held: bytes that running batches may hold together in files
    that are deleted after use (``disk_gb`` of profiles/slurm).
    """

    workers: int = 8
    held: float = 50 * GIGABYTE


ROOM = Room()


def as_text(plan: Plan, room: Room = ROOM) -> str:
    """The outlook of ``plan``, ready to print; wall time and the peak of disk are for ``room``."""
    lines = [f"{len(plan.cells)} cells of {len(plan.experiments)} experiments at size {plan.run.size}"]
    lines += [f"skipped: experiment {name}: {reason}" for name, reason in plan.skipped.items()]
    if not plan.cells:
        return "\n".join([*lines, "nothing would run"])
    for axis in ("dataset", "encoder", "method"):
        lines += ["", *_counts(axis, plan.cells)]
    lines += [
        "",
        *_passes(plan),
        *_hours(plan),
        *_wall(plan, room),
        *_jobs(plan),
        *_disk(plan, room),
        *_assumed(plan),
        *_missing(plan),
    ]
    return "\n".join(lines)


def _counts(axis: str, cells: Iterable[Cell]) -> list[str]:
    counts = Counter(getattr(cell, axis) for cell in cells)
    width = max(map(len, counts))
    return [f"{axis + 's':<{width + 2}}  cells", *(f"  {name:<{width}}  {n:>5}" for name, n in counts.items())]


class Passes(NamedTuple):
    """Numbers of images that encoders process: test images, images for banks, and images encoded during training."""

    test: int
    banks: int
    fresh: int


def passes(plan: Plan) -> Passes:
    """The encoder passes of the run. Test images count once per encoder and query view."""
    jobs, costs = _all(plan), plan.costs
    return Passes(
        sum(costs.encoded(job) for job in jobs if isinstance(job, Features)),
        sum(costs.encoded(job) for job in jobs if isinstance(job, Bank)),
        sum(costs.fresh_passes(job) for job in jobs if isinstance(job, Fit)),
    )


def disk(plan: Plan) -> Counter[str]:
    """Bytes of all large files of the run, by kind."""
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
    """Hours on the device of the run, by encoder."""
    hours: dict[str, float] = {}
    for job in _all(plan):
        name = getattr(job, "encoder", None)
        if name is None:
            continue  # masks: no encoder, and nothing on the device
        hours[name] = hours.get(name, 0.0) + plan.costs.operations(job) / plan.costs.rate(job) / 3600
    total = sum(hours.values())
    device = (
        f"GPU hours       {total:.1f} at {GPU_RATE / 1e12:.0f} TFLOP/s"
        if plan.costs.on_gpu
        else f"CPU hours       {total:.1f} at {CORE_RATE / 1e9:.0f} GFLOP/s per core"
    )
    largest = ", ".join(f"{name} {value:.1f}" for name, value in sorted(hours.items(), key=lambda item: -item[1])[:8])
    return [f"{device}; the start of jobs, decoding and evaluation not counted", f"  by encoder    {largest}"]


def _wall(plan: Plan, room: Room) -> list[str]:
    jobs = f"jobs at a time that hold {_gigabytes(room.held)} GB together"
    what = jobs if plan.batched else "GPUs" if plan.costs.on_gpu else "cores"
    time = _duration(wall_seconds(plan, room))
    return [f"wall time       {time} with {room.workers} {what}, good to a factor of two"]


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:.1f} hours" if seconds >= 3600 else f"{seconds / 60:.1f} minutes"


def _jobs(plan: Plan) -> list[str]:
    """The number of cluster jobs and how long they take."""
    batches = plan.batches
    lengths = sorted([batch.seconds for batch in batches.all.values()])
    before = Counter(job.name for job in batches.made_before)
    manifests = (1 + len(PARTS)) * len(dict.fromkeys(cell.dataset for cell in plan.cells))
    middle = lengths[len(lengths) // 2] / 60
    return [
        f"cluster         {len(lengths) + before.total() + manifests} jobs: {len(lengths)} batches of cells, "
        f"{before['features']} of features, {before['masks']} of masks, {manifests} of manifests",
        f"  batches       {lengths[0] / 60:.1f} to {lengths[-1] / 60:.1f} minutes, median {middle:.1f}; without them "
        f"{len(_all(plan)):,} jobs",
    ]


def _disk(plan: Plan, room: Room) -> list[str]:
    """The size of all files together, the size of those that stay, and the peak."""
    total, kept = disk(plan), plan.run.kept
    final = sum(size for kind, size in total.items() if kind in kept)
    peak = peak_bytes(plan, room)
    parts = ", ".join(f"{kind} {_gigabytes(total[kind])}" for kind in LARGE)
    lines = [
        f"disk            {_gigabytes(peak)} GB at most with {room.workers} jobs at a time, {_gigabytes(final)} GB at the "
        f"end: {', '.join(kind for kind in LARGE if kind in kept)} stay (key keep)",
        f"  all files     {_gigabytes(total.total())} GB: {parts}",
    ]
    free = free_bytes(plan.results.root)
    if free < peak:
        lines.append(
            f"  too small     {plan.results.root}: {_gigabytes(free)} GB are free; keep less (key keep), run fewer jobs "
            "at a time, or set the key results to a folder on a larger disk"
        )
    return lines


def _gigabytes(size: float) -> str:
    """Bytes in gigabytes: whole ones, or two digits of less than ten."""
    return f"{size / GIGABYTE:,.0f}" if size >= 10 * GIGABYTE else f"{size / GIGABYTE:.2g}"


def peak_bytes(plan: Plan, room: Room) -> float:
    """The largest number of bytes of all large files at one time, those that stay included."""
    return _simulated(plan, room).peak if plan.batched else float(disk(plan).total())


def wall_seconds(plan: Plan, room: Room) -> float:
    """Seconds from the start of the first job to the end of the last, start-up, decoding and evaluation included.

    Batches start in the order of the plan.
    """
    workers = room.workers
    if plan.batched:
        before = sum(plan.costs.seconds(job) for job in plan.batches.made_before)
        return _simulated(plan, room).seconds + before / workers
    lengths = [(plan.costs.seconds(job), min(workers, job.threads(plan.run))) for job in _all(plan)]
    return max(sum(seconds * threads for seconds, threads in lengths) / workers, max(lengths)[0])


class Simulated(NamedTuple):
    """The result of simulating a run in batches.

    peak: peak of the bytes of all large files. seconds: time at which the last batch ends.
    """

    peak: float
    seconds: float


class Running(NamedTuple):
    """A batch that runs in a simulation. ``start`` and ``end`` are in seconds from the start of the run."""

    end: float
    start: float
    batch: Batch

    def kept(self, now: float) -> float:
        """Bytes written by time ``now`` of files that stay, at an even rate."""
        return self.batch.kept * (now - self.start) / (self.end - self.start)


def _simulated(plan: Plan, room: Room) -> Simulated:
    """Simulate a run in ``room``, whose batches start in the order of the plan.

    The peak is updated whenever a batch starts or ends.
    """
    running: list[Running] = []
    peak = now = 0.0
    stays: float = sum(
        size for job in plan.batches.made_before for kind, size in plan.costs.disk(job).items() if kind in plan.run.kept
    )

    def look() -> None:
        nonlocal peak
        peak = max(peak, stays + sum(one.batch.held + one.kept(now) for one in running))

    for batch in [*plan.batches.all.values(), None]:
        while running and (
            batch is None
            or len(running) >= room.workers
            or sum(one.batch.held for one in running) + batch.held > room.held
        ):
            first = min(running, key=lambda one: one.end)
            now = first.end
            look()
            running.remove(first)
            stays += first.batch.kept
        if batch is not None:
            running.append(Running(now + BATCH_START + batch.seconds, now, batch))
            look()
    return Simulated(peak, now)


def free_bytes(folder: Path) -> int:
    """Free bytes on the disk of ``folder``, which need not exist yet."""
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


def _missing(plan: Plan) -> list[str]:
    """One line per dataset of the run whose folder is not on this machine."""
    found = []
    for name in dict.fromkeys(cell.dataset for cell in plan.cells):
        root = plan.catalogue.datasets[name].expanded_root
        if root is not None and plan.catalogue.datasets[name].generator is None and not root.is_dir():
            found.append(
                f"missing         dataset {name}: there is no folder {root}; its cells would be dashes "
                f"(foundad data check {name})"
            )
    return found


def _all(plan: Plan) -> list[Stage]:
    """All jobs of all batches, and the features and masks that are made before."""
    return [*plan.batches.made_before, *chain.from_iterable(batch.jobs for batch in plan.batches.all.values())]
