"""What a fuzz target is, and the rule that every input is held to: it is read, or it is refused in plain lines.

A target writes the input where a user would have it and calls the project's own reader. Anything but success or a UserError
is a finding, and so is a line that names no file, a process that is started, a network connection, a file written or opened
outside the target's folder, five seconds of processor time, or a gibibyte of memory. It mutates nothing and counts nothing;
that is :mod:`driver`'s work.
"""

import atexit
import os
import resource
import shutil
import signal
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any

from foundad.errors import MachineError, UserError

ROOT = Path(__file__).resolve().parents[2]
SECONDS, BYTES = 5, 1 << 30  # of processor time and memory that one input may take
LONGEST = 2000  # characters of a line
BAIT = "bait.png"  # lies beside a target's folder; nothing may open it

Mutate = Callable[[bytes, Random, Sequence[bytes]], bytes]


@dataclass(frozen=True)
class Target:
    """One reader of one kind of file.

    Args:
        name: of the kind, and of its folder below seeds/.
        seeds: small valid files that mutation starts from.
        read: writes the bytes to their place and reads them back by the project's reader.
        mutate: makes the next input of a seed, a random generator and all seeds.
        names: every line of a refusal holds one of these.
        folder: all that the reader may write to.
    """

    name: str
    seeds: list[bytes]
    read: Callable[[bytes], object]
    mutate: Mutate
    names: tuple[str, ...]
    folder: Path
    after: Callable[[], str | None] = field(default=lambda: None)


@dataclass(frozen=True)
class Finding:
    """What an input did that it must not: the kind, the place in our code, and the words."""

    kind: str
    place: str
    words: str

    @property
    def group(self) -> tuple[str, str]:
        """Findings of one group have one cause."""
        return self.kind, self.place


class Hang(BaseException):
    """An input takes longer than :data:`SECONDS`; no reader may catch it."""


class Watch:
    """Sees, through Python's audit events, what a reader does outside its folder. There is one a process; it never ends."""

    def __init__(self) -> None:
        self.folder: str | None = None
        self.seen: list[str] = []
        self.thread = 0
        sys.addaudithook(self._event)

    @contextmanager
    def over(self, folder: Path) -> Iterator[list[str]]:
        """What happens meanwhile, in words."""
        self.folder, self.seen, self.thread = str(folder), [], threading.get_ident()
        try:
            yield self.seen
        finally:
            self.folder = None

    def _event(self, event: str, values: tuple[Any, ...]) -> None:
        if self.folder is None:
            return
        if event == "open":
            self._opened(*values)
        elif event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "socket.connect"):
            self.seen.append(f"{event} {values[0]!r:.200}")
        elif event in (
            "os.mkdir",
            "os.remove",
            "os.rmdir",
            "os.rename",
            "os.symlink",
            "os.link",
            "os.chmod",
            "os.truncate",
        ):
            for path in values[:2]:
                if isinstance(path, str | bytes | os.PathLike) and self._outside(path):
                    self.seen.append(f"{event} {os.fspath(path)!r:.200}")

    def _opened(self, path: Any, mode: Any, flags: Any) -> None:
        if not isinstance(path, str | bytes | os.PathLike):
            return
        writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        if (writes and self._outside(path)) or self._is_bait(path):
            self.seen.append(f"open {os.fspath(path)!r:.200} {mode}")

    def _is_bait(self, path: Any) -> bool:
        name = os.fsdecode(path)
        return name.endswith(BAIT) and os.path.realpath(name) == os.path.realpath(f"{self.folder}/../{BAIT}")

    def _outside(self, path: Any) -> bool:
        whole = os.path.realpath(os.fsdecode(path))
        return not whole.startswith(f"{self.folder}/") and whole not in ("/dev/null", self.folder)


WATCH = Watch()


def outcome(target: Target, data: bytes) -> Finding | bool:
    """What ``data`` does to ``target``: True it is read, False it is refused, or a finding."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result: Finding | bool
    try:
        with warnings.catch_warnings(), WATCH.over(target.folder) as seen, _at_most():
            warnings.simplefilter("ignore")
            result = _read(target, data)
    except Hang as error:
        result = _finding("Hang", error)
    if seen:
        return Finding("Escape", seen[0].partition(" ")[0], "; ".join(seen[:3]))
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    if grown > BYTES and not isinstance(result, Finding):
        return Finding("Memory", target.name, f"{grown >> 20} MiB for {len(data)} bytes")
    left = target.after()
    return result if left is None or isinstance(result, Finding) else Finding("Escape", "left over", left)


def _read(target: Target, data: bytes) -> Finding | bool:
    try:
        target.read(data)
    except MachineError as error:
        return _finding("MachineError", error)
    except UserError as error:
        wrong = _wrong_words(str(error), target.names)
        return _finding(wrong, error) if wrong else False
    except (KeyboardInterrupt, Hang):
        raise
    except BaseException as error:
        return _finding(type(error).__name__, error)
    return True


def _wrong_words(message: str, names: tuple[str, ...]) -> str | None:
    """What is wrong with the words of a refusal, if anything is."""
    lines = message.splitlines()
    if not message.strip() or not all(line.strip() for line in lines):
        return "empty line"
    try:
        message.encode()
    except UnicodeEncodeError:
        return "line that cannot be printed"
    if any("Traceback" in line for line in lines):
        return "traceback in a line"
    if any(len(line) > LONGEST for line in lines):
        return "line without end"
    if not all(any(name in line for name in names) for line in lines):
        return "line without a file"
    return None


def _finding(kind: str, error: BaseException) -> Finding:
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if _ours(frame.filename)]
    last = own[-1] if own else None
    place = f"{Path(last.filename).relative_to(ROOT)}:{last.lineno} {last.name}" if last else "elsewhere"
    words = " ".join(f"{type(error).__name__}: {error}".split())
    return Finding(kind, place, words.encode(errors="backslashreplace").decode()[:400])


def _ours(name: str) -> bool:
    return name.startswith((f"{ROOT}/foundad/", f"{ROOT}/baselines/"))


@contextmanager
def _at_most() -> Iterator[None]:
    """Raise :class:`Hang` after :data:`SECONDS` of processor time, so that a busy machine hangs nothing."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Hang(f"more than {SECONDS} seconds of processor time")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def new_folder(name: str) -> Path:
    """An empty folder for a target, with the bait beside it; ``..`` from it leads to the bait alone."""
    above = Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-")).resolve()
    atexit.register(shutil.rmtree, above, ignore_errors=True)
    (above / BAIT).write_bytes(b"bait")
    (above / "own").mkdir()
    return above / "own"
