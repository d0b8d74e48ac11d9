"""Runs a job of Snakemake as on a machine without a shared disk: in an empty folder, without files of the caller.

    elsewhere.py submit SCRIPT     starts the script and prints a number
    elsewhere.py status NUMBER     running, success or failed

The folders of the machines are below $ELSEWHERE. Each machine sees the files in
$ELSEWHERE/image, as in a container image.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

MACHINES = Path(os.environ["ELSEWHERE"])
KEPT = ("PATH", "PYTHONPATH", "HOME", "OMP_NUM_THREADS", "LANG")


def submit(script: str) -> str:
    """Start ``script`` on a new machine; its number."""
    number = str(len(list(MACHINES.glob("*.sh"))))
    machine = MACHINES / number
    shutil.copytree(MACHINES / "image", machine, symlinks=True)
    own = Path(shutil.copy(script, MACHINES / f"{number}.sh"))
    environment = {name: os.environ[name] for name in KEPT if name in os.environ}
    words = f"bash {own} > {own.with_suffix('.log')} 2>&1; echo $? > {own.with_suffix('.code')}.new; "
    words += f"mv {own.with_suffix('.code')}.new {own.with_suffix('.code')}"
    subprocess.Popen(["bash", "-c", words], cwd=machine, env=environment, start_new_session=True)
    return number


def status(number: str) -> str:
    """What has become of a job."""
    code = MACHINES / f"{number}.code"
    if not code.exists():
        return "running"
    return "success" if code.read_text().strip() == "0" else "failed"


if __name__ == "__main__":
    print({"submit": submit, "status": status}[sys.argv[1]](sys.argv[2]))
