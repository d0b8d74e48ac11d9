"""Jobs that start warm: a process that has imported what stages need forks one for every job of a run on this machine."""

import os
import sys
import tempfile
from pathlib import Path

PARENT = "FOUNDAD_WARM"  # variable with the process id of the Snakemake whose servers calls within its jobs share
LONGEST_FOLDER = 90  # letters; the name of a socket holds 107


def command(parent: int) -> list[str]:
    """What to call instead of ``python -m foundad`` for the jobs of the Snakemake with this process id.

    ``python -m foundad`` itself where the system has no means to watch a process (Linux alone has).
    """
    folder = f"{tempfile.gettempdir()}/foundad-{os.getuid()}-{parent}"
    if not hasattr(os, "pidfd_open") or len(folder) > LONGEST_FOLDER:
        return [sys.executable, "-m", "foundad"]
    return [sys.executable, "-I", "-S", str(Path(__file__).with_name("client.py")), folder, str(parent)]
