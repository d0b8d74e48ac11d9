"""How torch computes: on which device, with how many threads, in what precision, compiled or not.

Resolves ``auto``, and gives every process a GPU of its own.

Nothing else chooses devices. A GPU is claimed by a lock on a file before torch is imported, so that several jobs on one
machine never meet on one GPU; the kernel frees the lock when the process ends, however it ends.
"""

import fcntl
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal

from foundad.errors import MachineError

if TYPE_CHECKING:  # torch is imported after a GPU is claimed
    import torch
    from torch import nn

VISIBLE = "CUDA_VISIBLE_DEVICES"
POLL_SECONDS = 0.2
Precision = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class Compute:
    """How a stage computes.

    Attributes:
        device: of torch, as :func:`choose_device` gives it.
        threads: of this process.
        batch_size: images an encoder call.
        precision: what autocast computes in; the projector trains and scores in bfloat16 where it is not float32.
        compiled: torch.compile for the encoder and for the training of the projector.
    """

    device: str = "cpu"
    threads: int = 1
    batch_size: int = 32
    precision: Precision = "float32"
    compiled: bool = False


ON_CPU = Compute()
_claimed: list[IO[str]] = []  # open as long as this process lives: closing the file would free the GPU


def limit_threads(threads: int | None) -> None:
    """Bound the threads of every numerical library; must run before numpy or torch is imported.

    A torch process of two threads beside another busy one on two cores runs many times slower than with one.
    """
    # Else OpenBLAS' threads spin for milliseconds after a product, on the very cores that torch's threads need next: the
    # searching methods took twice the time for a picture. The value is a power of two of cycles, the smallest there is.
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")
    if threads is not None:
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            os.environ[name] = str(threads)


def gpu_pool() -> list[str]:
    """Ids of the GPUs this process may choose from: what the environment or cluster gave it, else all of the machine."""
    given = os.environ.get(VISIBLE)
    if given is not None:
        return [name.strip() for name in given.split(",") if name.strip() not in ("", "-1")]
    try:
        query = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]
        listed = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in listed.splitlines() if line.strip()]


def claim_gpu(pool: list[str], folder: Path | None = None) -> str:
    """Lock one GPU of ``pool`` for the life of this process and show it alone to CUDA; waits until one is free.

    Args:
        pool: ids as CUDA_VISIBLE_DEVICES takes them.
        folder: of the lock files; default: the machine's temporary folder, so that all runs of all users share them.
    """
    folder = folder or Path(tempfile.gettempdir())
    announced = False
    while True:
        for gpu in pool:
            file = _open_for_all(folder / f"foundad-gpu-{gpu.replace('/', '_')}.lock")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                continue
            _claimed.append(file)
            os.environ[VISIBLE] = gpu
            return gpu
        if not announced:
            print(f"waiting for one of {len(pool)} GPUs", file=sys.stderr, flush=True)
            announced = True
        time.sleep(POLL_SECONDS)


def _open_for_all(path: Path) -> IO[str]:
    before = os.umask(0)
    try:
        return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "w")
    finally:
        os.umask(before)


def choose_device(name: str) -> str:
    """The torch device ``auto``, ``cpu``, ``mps``, ``cuda`` or ``cuda:N`` stands for on this machine.

    Claims a GPU where it takes one, which is then the only one this process sees: ``cuda``. Call it before torch is
    imported.

    Raises:
        MachineError: the device was asked for by name and is not here.
    """
    pool = gpu_pool() if name == "auto" or name.startswith("cuda") else []
    if name.startswith("cuda:"):
        index = int(name.partition(":")[2])
        if index >= len(pool):
            raise MachineError(f"device '{name}': this machine has {len(pool)} GPUs, counted from 0; choose another")
        pool = [pool[index]]
    if pool and not _claimed:
        claim_gpu(pool)
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    if name.startswith("cuda"):
        if not torch.cuda.is_available():
            raise MachineError(f"device '{name}': this machine has no usable CUDA GPU; choose cpu or auto")
        return "cuda"
    if name == "mps" and not torch.backends.mps.is_available():
        raise MachineError("device 'mps': this machine has no usable Apple GPU; choose cpu or auto")
    return name


def autocast(device: "torch.device", dtype: "torch.dtype") -> AbstractContextManager[object]:
    """torch's autocast to ``dtype``; nothing at all for float32, which some devices have no autocast for."""
    import torch

    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)


def compiled(module: "nn.Module") -> "Callable[..., torch.Tensor]":
    """``module`` through torch.compile, which compiles at the first call and for every new shape.

    The call raises a MachineError where that fails, as it does without a C++ compiler.
    """
    import torch
    from torch._dynamo.exc import TorchDynamoException

    fast = torch.compile(module)

    def call(*inputs: torch.Tensor | None) -> torch.Tensor:
        try:
            return fast(*inputs)
        except TorchDynamoException as error:
            reason = " ".join(str(error).partition("Set TORCHDYNAMO_VERBOSE")[0].split())[:200]
            raise MachineError(f"compile: true: torch.compile failed, set it to false: {reason}") from None

    return call
