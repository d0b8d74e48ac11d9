"""Processes that claim the GPU, on the real one: they do not meet, by index and by UUID, and ``auto`` takes it."""

import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from gpu_report import Found, Report, within

CHILD = """
import os, sys, time
from foundad.device import choose_device
device = choose_device(sys.argv[1])
start = time.monotonic()
import torch
torch.ones(8, device=device).sum().item()
count = torch.cuda.device_count() if device == "cuda" else 1
time.sleep(0.5)
print(device, count, start, time.monotonic(), os.environ.get("CUDA_VISIBLE_DEVICES", ""), flush=True)
"""


def claims(report: Report, device: str) -> None:
    """All rows, their processes side by side; must run before this process claims a GPU itself."""
    expected = "cpu" if device == "cpu" else "cuda"
    with tempfile.TemporaryDirectory() as folder:
        pools: dict[str, str | None] = {"a made-up index": "7"}
        if expected == "cuda":
            found: dict[str, str] = {}
            if not report.run("GPUs of the machine", partial(named, found)):
                return
            pools = {**found, "nothing: all GPUs of the machine": None}
        running = {name: start(pool, Path(folder) / str(number)) for number, (name, pool) in enumerate(pools.items())}
        for name, processes in running.items():
            report.run(f"CUDA_VISIBLE_DEVICES is {name}", partial(apart, processes, expected))


def named(found: dict[str, str]) -> Found:
    """Puts the names of a GPU into ``found``."""
    found |= names()
    return Found(", ".join(f"{name} {value}" for name, value in found.items()))


def names() -> dict[str, str]:
    """The first GPU that this process may use, by index and by UUID."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    first = given.split(",")[0] if given else "0"
    uuid = first
    if not first.startswith(("GPU-", "MIG-")):
        query = ["nvidia-smi", f"--id={first}", "--query-gpu=uuid", "--format=csv,noheader"]
        uuid = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True).stdout.strip()
    return {"index": "0", "UUID": uuid} if first == "0" or not given else {"given": first, "UUID": uuid}


def start(pool: str | None, folder: Path) -> list[subprocess.Popen[str]]:
    """Two processes that claim a GPU of ``pool``; their locks are in ``folder``, as whoever started this may hold one."""
    folder.mkdir()
    here = os.environ | {"TMPDIR": str(folder), "PYTHONPATH": os.pathsep.join([str(Path.cwd()), *sys.path])}
    here.pop("CUDA_VISIBLE_DEVICES", None)
    here |= {} if pool is None else {"CUDA_VISIBLE_DEVICES": pool}
    command = [sys.executable, "-c", CHILD, "auto"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return [subprocess.Popen(command, env=here, text=True, **pipes) for _ in range(2)]


def apart(running: list[subprocess.Popen[str]], expected: str) -> Found:
    """The processes hold their GPU one after the other; seconds that they overlap, where they share one."""
    said = [process.communicate(timeout=120) for process in running]
    if any(process.returncode for process in running):
        raise RuntimeError(" ".join(error for _, error in said)[-300:])
    lines = [out.split() for out, _ in said]
    wrong = [line for line in lines if line[0] != expected or line[1] != "1"]
    if wrong:
        raise RuntimeError(f"auto took {wrong[0][0]} with {wrong[0][1]} devices")
    spans = sorted((float(start), float(end)) for _, _, start, end, *_ in lines)
    shared = len({line[4] for line in lines if len(line) > 4}) == 1
    overlap = max(0.0, spans[0][1] - spans[1][0]) if shared else 0.0
    return within(overlap, 0, "seconds that two hold one GPU", f"{overlap:.2g} s, auto is {expected}")
