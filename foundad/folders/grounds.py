"""What cells stand on: the manifests of their datasets and the draws that they learned from.

Folders that are merged must agree on them, or their cells are of other images.
"""

from collections.abc import Iterable
from pathlib import Path

from foundad.data.draws import read_draw
from foundad.data.manifest import Manifest, read_manifest
from foundad.errors import BrokenFile
from foundad.failures import failure_of
from foundad.folders.held import Folders, Held
from foundad.paths import PARTS, WHOLE, Results


def grounds(folders: Folders, newest: bool) -> tuple[dict[Path, Path], list[str]]:
    """Path below the results -> the folder whose manifest, ledger or draw is taken, in the order in which stages write them.

    Args:
        newest: of files with other contents, take that which was written last.

    Returns:
        The files, and one line for each that two folders hold with other contents, unless ``newest``.

    Raises:
        BrokenFile: one is damaged, or missing although cells stand on it.
    """
    owners: dict[Path, list[Path]] = {}
    for found in (_manifests, _draws):
        for root, cells in folders.items():
            for path in found(Results(root), cells.values()):
                owners.setdefault(path, []).append(root)
    taken: dict[Path, Path] = {}
    problems: list[str] = []
    for path, roots in owners.items():
        other = next((root for root in roots[1:] if not _agree(roots[0] / path, root / path)), None)
        if other is not None and not newest:
            problems.append(f"{path}: {roots[0]} and {other} name other images: their cells are of other data")
        taken[path] = roots[0] if other is None else max(roots, key=lambda root: (root / path).stat().st_mtime_ns)
    return taken | _ledgers(taken), problems


def _manifests(results: Results, cells: Iterable[Held]) -> list[Path]:
    """The manifests of the datasets of ``cells``. Metrics are computed from the part with labels and masks."""
    found = []
    for name in sorted({held.cell.dataset for held in cells}):
        truth = results.manifest(name, "truth")
        if not truth.is_file():
            raise BrokenFile(
                f"{truth}: there is no such file, but cells of {name} that stand on it; copy it from their run"
            )
        found += [path for part in (*PARTS, WHOLE) if (path := results.manifest(name, part)).is_file()]
    return [path.relative_to(results.root) for path in found]


def _draws(results: Results, cells: Iterable[Held]) -> list[Path]:
    """The draws of ``cells``: each must be the one that its cells name."""
    found: dict[Path, str] = {}
    for held in cells:
        path = results.draw(held.cell.dataset, held.cell.shots, held.cell.seed)
        if not held.draw:
            continue
        if not path.is_file():
            raise BrokenFile(f"{path}: there is no such file, but {held.cell} learned from it; copy it from its run")
        if path not in found:
            found[path] = read_draw(path).hash
        if found[path] != held.draw:
            raise BrokenFile(f"{path}: is not the draw {held.draw} that {held.cell} learned from; call that run again")
    return [path.relative_to(results.root) for path in found]


def _ledgers(taken: dict[Path, Path]) -> dict[Path, Path]:
    """The ledgers beside whole manifests: what people read of a dataset, on which no number depends."""
    found = {}
    for path, root in taken.items():
        ledger = Results(root).ledger(path.stem)
        if Results(root).manifest(path.stem) == root / path and ledger.is_file():
            found[ledger.relative_to(root)] = root
    return found


def _agree(a: Path, b: Path) -> bool:
    """Whether two manifests or draws name the same images, whatever made them."""
    return a.read_bytes() == b.read_bytes() or _images(a) == _images(b)


def _images(path: Path) -> Manifest | str:
    """The rows of a manifest, the hash of a draw, or why there is none."""
    reason = failure_of(path)
    if reason is not None:
        return reason
    return read_draw(path).hash if path.parts[-3] == "draws" else read_manifest(path)
