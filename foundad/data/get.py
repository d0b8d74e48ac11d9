"""``foundad data get``: turns a dataset's archive, downloaded or given, into the folder that the key ``root`` names.

People call it before the workflow, which downloads nothing. The archive is downloaded and unpacked in
``.<name>.getting`` next to the root; the dataset is looked for there, and its folder is renamed to the root. If a call
fails, there is no root, and the downloaded file is kept for the next call.
"""

import errno
import fcntl
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from foundad.config.dataset import Dataset, Download
from foundad.data.archive import unpack
from foundad.data.download import download
from foundad.data.layouts import layout_of
from foundad.errors import UserError
from foundad.files import sha256, write_text

RECORD = "foundad-source.json"  # beside the images: says where they come from
DEPTH = 4  # folders that an archive may put around a dataset


def get(dataset: Dataset, accepted: bool, archives: Sequence[Path] = (), folder: Path | None = None) -> Path:
    """Bring the images of ``dataset`` to where its config looks for them; returns that folder.

    Args:
        accepted: the user accepts the licence; needed to download.
        archives: local files to unpack instead of downloading.
        folder: replaces the root's parent.

    Raises:
        UserError: one line that says what is missing and where to get it.
    """
    source = f"config/datasets/{dataset.id}.yaml"
    root = target(dataset, folder)
    wanted = dataset.download
    if root.exists():
        problem = _problem(root, dataset)
        if problem:
            raise UserError(f"{root}: exists but {problem}; move it away, then call again")
        print(f"{root}: exists already; verify it with: foundad data check {dataset.id}")
        return root
    for archive in archives:
        if not archive.is_file():
            raise UserError(f"{archive}: there is no such file")
    print(f"{dataset.title}: {dataset.licence}\n{dataset.source}" + (f"\n{wanted.page}" if wanted else ""))
    if archives:
        with _workplace(root) as place:
            _install(dataset, archives, place, root)
    elif wanted is None:
        raise UserError(f"{source}: has no key 'download'; get the images, unpack them into {root}, or give --archive")
    else:
        _download_and_install(dataset, wanted, accepted, root)
    print(f"{root}: {dataset.title} is there; verify every file with: foundad data check {dataset.id}")
    if folder is not None and dataset.expanded_root != root:
        print(f"it is not where {source} looks: set its key root to {root}{_variable_hint(dataset, root)}")
    return root


def _download_and_install(dataset: Dataset, wanted: Download, accepted: bool, root: Path) -> None:
    call = f"foundad data get {dataset.id}"
    name = wanted.archive or "the archive"
    by_hand = f"get {name} at {wanted.page}, then: {call} --archive {wanted.archive or 'FILE'}"
    if wanted.url is None or wanted.archive is None:
        raise UserError(f"dataset {dataset.id}: it cannot be downloaded automatically: {by_hand}")
    if not accepted:
        raise UserError(f"dataset {dataset.id}: read the licence; if you accept it: {call} --accept-licence")
    with _workplace(root) as place:
        archive = download(wanted.url, place / wanted.archive, wanted.sha256, by_hand)
        try:
            _install(dataset, [archive], place, root)
        except UserError:
            archive.unlink()  # the next call downloads a bad archive again; after a full disk (OSError) it is kept
            raise


def target(dataset: Dataset, folder: Path | None) -> Path:
    """The folder that will hold the dataset; UserError if the config names none."""
    if dataset.root is None:
        made = (
            f"the workflow makes it: foundad {dataset.generator}" if dataset.generator else "a Python package holds it"
        )
        raise UserError(f"dataset {dataset.id}: there is nothing to get, {made}")
    root = dataset.expanded_root
    assert root is not None
    if folder is not None:
        return folder / (dataset.id if "$" in root.name else root.name)
    unset = re.findall(r"\$\{?(\w+)", str(root))
    if unset:
        raise UserError(
            f"config/datasets/{dataset.id}.yaml: key 'root' is {dataset.root}, and {unset[0]} is not set: "
            f"export {unset[0]}=DIR, or give --to DIR"
        )
    return root


def _variable_hint(dataset: Dataset, root: Path) -> str:
    found = re.fullmatch(r"\$\{?(\w+)\}?/[^/]+", dataset.root or "")
    return f", or: export {found[1]}={root.parent.resolve()}" if found else ""


@contextmanager
def _workplace(root: Path) -> Iterator[Path]:
    """The folder beside ``root`` for unfinished files, for one process at a time; removed once root exists.

    Disk errors in the body become one line.
    """
    place = root.parent / f".{root.name}.getting"
    try:
        place.mkdir(parents=True, exist_ok=True)
        with (place / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(f"{place}: another foundad data get is running there; wait for it") from None
            shutil.rmtree(place / "unpacked", ignore_errors=True)  # left by a killed call
            try:
                yield place
            finally:
                shutil.rmtree(place / "unpacked", ignore_errors=True)
        if root.exists():
            shutil.rmtree(place)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            reason = f"the disk is full ({error.strerror}); free some space, or give --to"
        else:
            reason = f"cannot be written: {error.strerror or error}; check its permissions, or give --to"
        raise UserError(f"{root.parent}: {reason}; what was downloaded is kept, call again") from None


def _install(dataset: Dataset, archives: Sequence[Path], place: Path, root: Path) -> None:
    from tqdm import tqdm

    unpacked = place / "unpacked"
    unpacked.mkdir()
    size = sum(archive.stat().st_size for archive in archives)
    free = shutil.disk_usage(unpacked).free
    if size > free:
        raise OSError(errno.ENOSPC, f"{(size - free) / 2**30:.1f} GiB too little")
    hashes = [
        {"archive": archive.name, "sha256": sha256(archive), "bytes": archive.stat().st_size} for archive in archives
    ]
    _print_hashes(dataset.download, hashes)
    with tqdm(desc="unpacking", unit="B", unit_scale=True, file=sys.stderr, disable=None) as progress:
        for archive in archives:
            unpack(archive, unpacked, progress=progress.update)
    found = find_root(unpacked, dataset)
    facts = {"dataset": dataset.id, "licence": dataset.licence, "source": dataset.source, "archives": hashes}
    write_text(found / RECORD, json.dumps(facts, indent=1) + "\n")
    os.sync()  # the files must be on disk before the folder gets its name
    found.rename(root)


def _print_hashes(wanted: Download | None, hashes: Sequence[dict[str, object]]) -> None:
    for facts in hashes:
        known = ""
        if wanted is not None and facts["archive"] == wanted.archive and wanted.sha256:
            known = ", as expected" if facts["sha256"] == wanted.sha256 else f", expected {wanted.sha256}"
        elif wanted is not None:
            known = ", no known hash to compare with"
        print(f"{facts['archive']}: SHA-256 {facts['sha256']}{known}")


def find_root(folder: Path, dataset: Dataset) -> Path:
    """``folder`` or the first folder in it, by depth, that holds every category of ``dataset`` in its layout."""
    problems = []
    level = [folder]
    for _ in range(DEPTH + 1):
        for candidate in level:
            problem = _problem(candidate, dataset)
            if problem is None:
                return candidate
            problems.append(problem)
        level = [path for parent in level for path in sorted(parent.iterdir()) if path.is_dir()]
    named = [problem for problem in problems if problem.startswith("lacks")] or problems
    raise UserError(
        f"dataset {dataset.id}: the archive does not hold it in the layout '{dataset.layout}': it {min(named, key=len)}; "
        "nothing was kept: check that it is the right archive"
    )


def _problem(root: Path, dataset: Dataset) -> str | None:
    """Why ``root`` does not hold ``dataset``, judged by names only; None if it does."""
    try:
        found = {(entry.category, entry.split) for entry in layout_of(dataset.layout).read(root, dataset)}
    except (UserError, OSError, KeyError, TypeError):
        return f"holds nothing in the layout '{dataset.layout}'"
    categories = list(dataset.folders or {category for category, _ in found})
    missing = [name for name in categories if not {(name, "train"), (name, "test")} <= found]
    if not found or len(missing) == len(categories):
        return f"holds nothing in the layout '{dataset.layout}'"
    return f"lacks {', '.join(missing)}" if missing else None
