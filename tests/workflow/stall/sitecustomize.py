"""Put on PYTHONPATH by the tests of kills: holds, limits or watches the jobs of one stage from inside.

Variables of the environment say which:
STALL_STAGE: the stage. STALL_FOLDER: where a held job leaves a file with its process id, and goes on when it is removed.
STALL_AT: ``start``, or ``rename``: before its first finished file takes its name. STALL_FILE_SIZE, STALL_MEMORY: limits in
bytes that every process of the stage gets (memory beside what it has when it starts); STALL_MODULES: folder where every job
lists the modules of this project that it has imported when it ends.
"""

import atexit
import os
import resource
import sys
import time
from pathlib import Path

LONGEST = 300  # seconds that a job is held: nothing waits for ever where a test was killed
held = []


def hold(folder: Path) -> None:
    """Say that this process waits, and wait until that word is taken away; once in a process."""
    if held:
        return
    held.append(True)
    word = folder / str(os.getpid())
    word.touch()
    end = time.monotonic() + LONGEST
    while word.exists() and time.monotonic() < end:
        time.sleep(0.02)


def at_rename(event: str, arguments: tuple) -> None:
    """An audit hook: holds before the first rename of a file below the results."""
    if event == "os.rename" and "logs" not in str(arguments[1]) and "results" in os.path.abspath(str(arguments[1])):
        hold(Path(os.environ["STALL_FOLDER"]))


def list_modules(stage: str) -> None:
    """Write the names of the project's modules that were imported."""
    names = sorted(name for name in sys.modules if name.partition(".")[0] in ("foundad", "baselines"))
    words = "-".join(word.replace("/", "_") for word in sys.orig_argv[3:8])
    Path(os.environ["STALL_MODULES"], f"{stage}-{words}").write_text("\n".join(names))


def main() -> None:
    """Act if this is a job of the stage that is meant."""
    command = sys.orig_argv
    if "foundad" not in command[:3] or len(command) < 4:
        return
    stage = command[3]
    if "STALL_MODULES" in os.environ:
        atexit.register(list_modules, stage)
    if stage != os.environ.get("STALL_STAGE"):
        return
    if "STALL_FILE_SIZE" in os.environ:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(os.environ["STALL_FILE_SIZE"]),) * 2)
    if "STALL_MEMORY" in os.environ:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + int(os.environ["STALL_MEMORY"]),) * 2)
    if os.environ.get("STALL_AT") == "start":
        hold(Path(os.environ["STALL_FOLDER"]))
    elif os.environ.get("STALL_AT") == "rename":
        sys.addaudithook(at_rename)


main()
