"""Writes files that are either whole or absent (temporary file, fsync, rename), and hashes their contents.

Every stage writes its outputs through :func:`write_beside`, so that a killed job never leaves half a file under its
final name.
"""

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TEMPORARY = ".foundad-tmp"  # in the name of every file and folder that is not finished


@contextmanager
def write_beside(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of ``path``; on success fsync it and rename it to ``path``.

    The folder is made if it is missing. If the body raises, the temporary file is removed and ``path`` stays as it was.
    :func:`sweep` removes what a killed process leaves.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Long names are cut: the temporary one must not be too long for the file system either.
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem[:100]}.", suffix=f"{TEMPORARY}{path.suffix}")
    temporary = Path(name)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)  # held while this process lives: sweep() removes only unlocked files
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
        os.close(handle)


@contextmanager
def folder_beside(path: Path) -> Iterator[Path]:
    """Yield a temporary folder next to ``path``; on success rename it to ``path``, replacing an older folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=TEMPORARY))
    handle = os.open(temporary, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        with lock(path.with_name(f".{path.name}.lock")):  # two processes must not interleave rmtree and rename
            if path.exists():
                shutil.rmtree(path)
            temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        os.close(handle)


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold the lock file ``path``; waits while another process holds it. The kernel frees it when its process ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        fcntl.flock(handle, fcntl.LOCK_EX)
        if _is_at(handle, path):
            break
        os.close(handle)  # its holder removed the file while we waited
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)


def sweep(root: Path) -> int:
    """Remove temporary files and folders of killed processes below ``root``; returns how many. Locked ones stay."""
    removed = 0
    for folder, folders, names in os.walk(root):
        for name in [*names, *folders]:
            if not (name.startswith(".") and TEMPORARY in name):
                continue
            path = Path(folder, name)
            try:
                handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
            except OSError:
                continue
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path) if path.is_dir() else path.unlink()
                removed += 1
            except OSError:
                pass  # its process is running, or the file belongs to another user
            finally:
                os.close(handle)
        folders[:] = [name for name in folders if TEMPORARY not in name]
    return removed


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` as UTF-8, whole or not at all."""
    with write_beside(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def sha256(path: str | Path) -> str:
    """Hexadecimal SHA-256 of the bytes of ``path``."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
