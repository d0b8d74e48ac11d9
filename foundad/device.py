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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

from foundad.errors import MachineError

if TYPE_CHECKING:  # torch is imported after a GPU is claimed
    import torch
    from torch import nn

VISIBLE = "CUDA_VISIBLE_DEVICES"
POLL_SECONDS = 0.2
# Set in jobs by Slurm, PBS, LSF, Grid Engine and Kubernetes.
ENGINES = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "SGE_TASK_ID", "KUBERNETES_SERVICE_HOST")
# Read at the first product of a process. Only with such a buffer does cuBLAS promise equal bits, which repeatable() needs.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
Precision = Literal["float32", "tf32", "bfloat16", "float16"]


@dataclass(frozen=True)
class Compute:
    """How a stage computes.

    Attributes:
        device: of torch, as :func:`choose_device` gives it.
        threads: of this process.
        batch_size: images an encoder call.
        precision: what encoders compute in, see :func:`arithmetic`; the projector computes in bfloat16 where it is float16.
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


def use_threads(threads: int) -> None:
    """As :func:`limit_threads`, for libraries that are imported already."""
    from threadpoolctl import threadpool_limits

    threadpool_limits(threads)
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(threads)


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


def given_by_engine() -> bool:
    """Whether a cluster gave this process one GPU, which then is its own: jobs of one node all see theirs as number 0."""
    given = os.environ.get(VISIBLE)
    return given is not None and len(gpu_pool()) == 1 and any(name in os.environ for name in ENGINES)


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
    if pool and not _claimed and not given_by_engine():
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


@contextmanager
def arithmetic(device: "torch.device", precision: Precision) -> Iterator[None]:
    """torch computes in ``precision`` on ``device`` as long as this lasts.

    bfloat16 and float16 are autocasts, which are meant for the forward pass alone; the others are :func:`float32_products`.
    """
    import torch

    with float32_products(device, precision):
        if precision in ("float32", "tf32"):
            yield
        else:
            with torch.autocast(device.type, getattr(torch, precision)):
                yield


@contextmanager
def float32_products(device: "torch.device", precision: Precision) -> Iterator[None]:
    """How products and convolutions of float32 numbers are computed on ``device`` as long as this lasts.

    On CUDA: in TF32 for the precision tf32 (factors are rounded to 10 bits of mantissa, sums are float32), else in float32,
    where torch's convolutions would be TF32 by themselves. On every other device: in float32.
    """
    import torch

    if device.type != "cuda":
        yield
        return
    # Through torch's older switches alone: newer ones exist, and reading one kind after setting the other is an error.
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


@contextmanager
def repeatable(device: "torch.device") -> Iterator[None]:
    """What torch computes on CUDA as long as this lasts has the same bits every time; on other devices it has anyway.

    Without it gradients of attention are summed in whatever order the GPU's blocks end.
    """
    import torch

    if device.type != "cuda":
        yield
        return
    filling: Any = torch.utils.deterministic
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    filled = filling.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    filling.fill_uninitialized_memory = False  # nothing here reads what it has not written
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        filling.fill_uninitialized_memory = filled


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
