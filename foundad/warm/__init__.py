"""Warm starts of jobs on this machine.

A server process imports the modules that stages need. It forks one process per job of a run, so jobs skip the imports.
"""

import os
import sys
import tempfile
from pathlib import Path

PARENT = "FOUNDAD_WARM"  # environment variable: id of the Snakemake process whose servers inner calls share
LONGEST_FOLDER = 90  # characters; the path of a socket may have 107


def command(parent: int) -> list[str]:
    """The command that replaces ``python -m foundad`` in the jobs of a Snakemake process.

    It is ``python -m foundad`` itself on a system that cannot watch a process. Only Linux can.

    Args:
        parent: the process id of Snakemake.
    """
    folder = f"{tempfile.gettempdir()}/foundad-{os.getuid()}-{parent}"
    if not hasattr(os, "pidfd_open") or len(folder) > LONGEST_FOLDER:
        return [sys.executable, "-m", "foundad"]
    return [sys.executable, "-I", "-S", str(Path(__file__).with_name("client.py")), folder, str(parent)]
