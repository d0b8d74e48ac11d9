"""A failed stage leaves a marker in place of its outputs, so that tables show a dash with the reason.

A marker is a small JSON file with the output's name. No reader takes it for data, because every stage calls
:func:`require` before it reads. Snakemake sees a finished job and continues; the target ``status`` fails at the end.

Only failures that would repeat with the same data, config and sources are recorded (:func:`recordable`). If the disk is
full, memory is too small, or a package or GPU is missing, the job leaves nothing and runs again at the next call.
"""

import json
import traceback
from collections.abc import Iterable
from pathlib import Path

from foundad.errors import BrokenFile, MachineError, UserError
from foundad.files import write_text

_ROOT, _OURS = Path(__file__).resolve().parent.parent, ("foundad", "baselines")
_KEY = "foundad_failure"
_START = b'{"' + _KEY.encode()
# Messages of machine failures that have no class: torch's allocators, CUDA, Rust's I/O in safetensors and tokenizers.
_OF_THE_MACHINE = (
    "out of memory",
    "not enough memory",
    "can't allocate",
    "cannot allocate",
    "failed to allocate",
    "unable to allocate",
    "bad_alloc",
    "no space left",
    "os error",
    "cuda error",
    "cublas",
    "cudnn",
    "too many open files",
    "resource temporarily unavailable",
    "can't start new thread",
    "failed to map",
)


class UpstreamFailure(UserError):
    """An input of this stage is the marker of an earlier failure; the message is that failure's reason."""


def interrupted(error: BaseException) -> bool:
    """Whether ``error`` is an interrupt, also one that a library in Rust has made an error of its own."""
    return isinstance(error, KeyboardInterrupt) or KeyboardInterrupt.__name__ in str(error)


def recordable(error: BaseException) -> bool:
    """Whether ``error`` would occur again on any machine, because data, config or code cause it."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, MachineError | BrokenFile):
            return False
        if isinstance(seen, UserError):
            return True  # whatever caused it
        if isinstance(seen, OSError | MemoryError | ImportError | SystemError) or interrupted(seen):
            return False
        if any(word in str(seen).lower() for word in _OF_THE_MACHINE):
            return False
        seen = seen.__cause__ or seen.__context__
    return True


def place_of(error: BaseException) -> str:
    """``(baselines/knn.py:41)``: the innermost place of ``error`` in this project, relative, so that it is one everywhere."""
    found = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        path = Path(frame.f_code.co_filename).resolve()
        if path.is_relative_to(_ROOT) and path.relative_to(_ROOT).parts[0] in _OURS:
            found = f"({path.relative_to(_ROOT).as_posix()}:{line})"
    return found


def write_failure(outputs: Iterable[Path], reason: str, key: str = "") -> None:
    """Write a marker with ``reason`` and the job's ``key`` in place of every output."""
    for path in outputs:
        write_text(path, json.dumps({_KEY: reason, "key": key}) + "\n")


def failure_of(path: Path, key: str | None = None) -> str | None:
    """The reason in the marker at ``path``; None if the file is not a marker.

    Raises:
        BrokenFile: the marker is damaged, or its key is not ``key`` (None: any).
    """
    with open(path, "rb") as file:
        if file.read(len(_START)) != _START:
            return None
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        reason, found = str(stored[_KEY]), str(stored["key"])
    except (ValueError, KeyError, TypeError):
        raise BrokenFile(f"{path}: is a damaged record of a failure; delete it and call again") from None
    if key is not None and found != key:
        raise BrokenFile(f"{path}: records a failure of another config or other data; delete it and call again")
    return reason


def require(paths: Iterable[Path]) -> None:
    """Check that all ``paths`` exist and none is a marker.

    Raises:
        BrokenFile: a file is missing; the message names it.
        UpstreamFailure: a file is a marker.
    """
    for path in paths:
        if not path.is_file():
            raise BrokenFile(
                f"{path}: there is no such file; make it with: snakemake --cores all {path} (with the run's --configfile)"
            )
        reason = failure_of(path)
        if reason is not None:
            raise UpstreamFailure(reason)
