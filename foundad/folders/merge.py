"""``foundad merge``: cells of several results folders, of several machines or times, in one folder.

A cell is taken whole from one folder, with the manifests and the draw that it stands on and with what was measured of it.
What several folders hold must agree. Nothing is written into a folder that is read, and nothing at all before
everything was compared.
"""

import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from foundad.cells import Cell
from foundad.errors import UserError
from foundad.files import write_beside
from foundad.folders.grounds import grounds
from foundad.folders.held import Folders, Held, contradiction, held_cells, shortened
from foundad.paths import Results
from foundad.report.collect import write_collected

SECOND = 1_000_000_000  # nanoseconds


@dataclass(frozen=True)
class Merged:
    """What a merge did: the cells that are now in the folder, how many of them each source gave, and files written."""

    cells: int
    taken: Mapping[Path, int]
    files: int


def merge(sources: Sequence[Path], into: Path, newest: bool = False) -> Merged:
    """Bring all finished cells of ``sources`` into the results folder ``into``, which may hold cells already.

    Of equal cells one is taken: that of ``into``, else the first with a model, else the first. metrics.parquet and
    runs.parquet of ``into`` then tell of all its finished cells. Where nothing is new, nothing is written.

    Args:
        newest: where folders contradict each other, take what was written last; otherwise that is an error.

    Raises:
        UserError: folders contradict each other, or one is no results folder; one line each.
        BrokenFile: a cell is damaged, or the manifest or draw that it stands on is missing; one line each.
    """
    if into.resolve() in {path.resolve() for path in sources}:
        raise UserError(f"{into}: is one of the folders to merge; leave it out, what it holds stays in it anyway")
    there = [into] if Results(into).cells.is_dir() else []
    folders = {path: held_cells(Results(path)) for path in [*there, *sources]}
    chosen, problems = _chosen(folders, into, newest)
    found, others = grounds(folders, newest)
    if problems or others:
        cure = "nothing was written; take what was written last with: --keep newest"
        raise UserError("\n".join([*shortened([*others, *problems]), cure]))
    new = [held for held in chosen.values() if held.results.root != into]
    files = _files(new, _measured(chosen, folders, into), {path: root for path, root in found.items() if root != into})
    if files or not (Results(into).metrics.is_file() and Results(into).runs.is_file()):
        replaced = [folders[into][held.cell] for held in new if held.cell in folders.get(into, ())]
        _write({into / path: source for path, source in files.items()}, replaced, Results(into))
        _collect(chosen, [into / path for path in found], Results(into))
    return Merged(len(chosen), {path: sum(held.results.root == path for held in new) for path in sources}, len(files))


# ---------------------------------------------------------------------------------------------------- cells


def _chosen(folders: Folders, into: Path, newest: bool) -> tuple[dict[Cell, Held], list[str]]:
    """The copy of each cell that is taken, and one line for each contradiction that nothing decides."""
    copies: dict[Cell, list[Held]] = {}
    for cells in folders.values():
        for cell, held in cells.items():
            copies.setdefault(cell, []).append(held)
    chosen, problems = {}, []
    for cell, found in sorted(copies.items()):
        first, other = found[0], next((held for held in found if not held.equals(found[0])), None)
        if other is not None and newest:
            first = max(found, key=lambda held: held.written)
        elif other is not None:
            problems.append(f"{cell}: {contradiction(first, other)}")
        equal = [held for held in found if held.equals(first)]
        there = [held for held in equal if held.results.root == into]
        chosen[cell] = [*there, *(held for held in equal if held.has_model), *equal][0]
    return chosen, problems


# ---------------------------------------------------------------------------------------------------- writing


def _measured(chosen: Mapping[Cell, Held], folders: Folders, into: Path) -> dict[Cell, dict[Path, Path]]:
    """Cell -> what was measured of it and is not there: path below the results -> the folder with an equal cell."""
    missing: dict[Cell, dict[Path, Path]] = {}
    for root, cells in folders.items():
        for cell, held in cells.items():
            for path in held.measured if held.equals(chosen[cell]) else ():
                missing.setdefault(cell, {}).setdefault(path, root)
    kept = (cell for cell, held in chosen.items() if held.results.root == into)
    of_kept = {cell: {path: root for path, root in missing.get(cell, {}).items() if root != into} for cell in kept}
    return missing | of_kept


def _files(
    new: Sequence[Held], measured: Mapping[Cell, Mapping[Path, Path]], grounds: Mapping[Path, Path]
) -> dict[Path, Path]:
    """Path below the results -> source of every file to write: what cells stand on, then cells, then measurements."""
    found = {path: root / path for path, root in grounds.items()}
    for held in new:
        found |= {path: held.results.root / path for path in held.files}
    for paths in measured.values():
        found |= {path: root / path for path, root in paths.items()}
    return found


def _write(files: Mapping[Path, Path], replaced: Sequence[Held], results: Results) -> None:
    """Copy target -> source. Killed anywhere, it leaves what the next call completes."""
    for path in (results.metrics, results.runs):
        path.unlink(missing_ok=True)
    for held in replaced:  # metrics go first: without them a cell counts as unfinished
        for path in reversed([*held.files, *held.measured]):
            (held.results.root / path).unlink()
    for target, source in files.items():
        with write_beside(target) as temporary:
            shutil.copyfile(source, temporary)
            shutil.copystat(source, temporary)  # the time: which copy of a cell is the newest stays known


def _collect(cells: Mapping[Cell, Held], grounds: Sequence[Path], results: Results) -> None:
    """Write metrics.parquet and runs.parquet, and date files so that Snakemake makes no cell again.

    What cells stand on must not be newer than any of them. metrics.parquet is dated before them as well: a merge knows no
    config, so it cannot tell which cells are stale. The next call of Snakemake then runs the stage ``collect``, which
    compares all keys with the config, and writes the same bytes if all are current.
    """
    oldest = min((_in_order(held, results) for held in cells.values()), default=time.time_ns())
    write_collected({cell: held.collected for cell, held in cells.items()}, results)
    for path in (results.metrics, results.runs, *grounds):
        if path.stat().st_mtime_ns > oldest - SECOND:
            os.utime(path, ns=(oldest - SECOND, oldest - SECOND))


def _in_order(held: Held, results: Results) -> int:
    """Let no file of a cell be older than one that it was made from, in case a copy mixed up their times.

    Returns:
        The time of its oldest file.
    """
    there = Held(held.cell, results, held.keys, held.collected)
    times = [0]
    for path in (results.root / name for name in (*there.files, *there.measured)):
        times.append(path.stat().st_mtime_ns)
        if times[-1] < max(times):
            os.utime(path, ns=(max(times), max(times)))
    return min(times[1:])
