"""Settings of torch: the device, the number of threads, the precision, and whether to compile.

This is the only module that chooses a device. It resolves ``auto``, and it gives every process its own GPU: it claims
the GPU with a lock on a file before torch is imported. So several jobs on one machine never share a GPU. The kernel
releases the lock when the process ends, however it ends.
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
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

from foundad.errors import MachineError

if TYPE_CHECKING:  # torch is imported after a GPU is claimed
    import torch

VISIBLE = "CUDA_VISIBLE_DEVICES"
POLL_SECONDS = 0.2
# Variables that Slurm, PBS, LSF, Grid Engine and Kubernetes set in their jobs.
ENGINES = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "SGE_TASK_ID", "KUBERNETES_SERVICE_HOST")
# cuBLAS promises equal bits, which repeatable() needs, only with such a buffer. It reads the variable at the first
# product of a process.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
Precision = Literal["float32", "tf32", "bfloat16", "float16"]


@dataclass(frozen=True)
class Compute:
    """How a stage computes.

    Attributes:
        device: torch device, as :func:`choose_device` returns it.
        threads: number of CPU threads of this process.
        batch_size: images per encoder call.
        precision: precision of encoders, see :func:`arithmetic`. With float16 the projector computes in bfloat16.
        compiled: whether the encoder and the training of the projector use torch.compile.
    """

    device: str = "cpu"
    threads: int = 1
    batch_size: int = 32
    precision: Precision = "float32"
    compiled: bool = False


ON_CPU = Compute()
_claimed: list[IO[str]] = []  # kept open: closing the file would release the GPU


def limit_threads(threads: int | None) -> None:
    """Limit the threads of every numerical library. Call it before numpy or torch is imported.

    On two busy cores, a torch process with two threads runs many times slower than with one.

    Args:
        threads: threads per library; None sets no limit.
    """
    # By default the threads of OpenBLAS spin for milliseconds after a product. They occupy the cores that the threads
    # of torch need next, and methods that search a bank take twice as long per picture. The value is the logarithm to
    # base 2 of a number of cycles, and 4 is the smallest allowed.
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")
    if threads is not None:
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            os.environ[name] = str(threads)


def use_threads(threads: int) -> None:
    """Limit the threads of numerical libraries that are already imported; compare :func:`limit_threads`."""
    from threadpoolctl import threadpool_limits

    threadpool_limits(threads)
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(threads)


@contextmanager
def threads_limited(threads: int) -> Iterator[None]:
    """Within this context, numerical libraries and torch, which must be imported already, use ``threads`` threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with _libraries().limit(limits=threads):
            yield
    finally:
        torch.set_num_threads(before)


@cache
def _libraries() -> Any:
    """The numerical libraries that are loaded now; looking for them takes a millisecond."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def gpu_pool() -> list[str]:
    """Ids of the GPUs that this process may use.

    These are the GPUs that the environment or the cluster gave it, or else all GPUs of the machine. The list may be
    empty.
    """
    given = os.environ.get(VISIBLE)
    if given is not None:
        return [name.strip() for name in given.split(",") if name.strip() not in ("", "-1")]
    try:
        query = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]
        listed = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in listed.splitlines() if line.strip()]


def _given_to() -> str:
    """The cluster job that was given GPUs of its own, as part of a name; empty if this process is in no such job.

    GPUs are locked within a job of a cluster. Its jobs on one node may all see their own GPU as number 0.
    """
    if VISIBLE not in os.environ:
        return ""
    found = next((os.environ[name] for name in ENGINES if name in os.environ), "")
    return "".join(letter if letter.isalnum() else "_" for letter in found) + "-" * bool(found)


def claim_gpu(pool: list[str], folder: Path | None = None) -> str:
    """Lock one GPU of ``pool`` until this process ends, and hide all others from CUDA. Waits until one is free.

    Args:
        pool: ids in the format of CUDA_VISIBLE_DEVICES.
        folder: folder of the lock files. The default is the temporary folder of the machine, so that all runs of all
            users share the locks. Only jobs that a cluster gave GPUs of their own share none with other jobs.

    Returns:
        The id of the locked GPU.
    """
    folder = folder or Path(tempfile.gettempdir())
    given_to, announced = _given_to(), False
    while True:
        for gpu in pool:
            file = _open_for_all(folder / f"foundad-gpu-{given_to}{gpu.replace('/', '_')}.lock")
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
    """The torch device that ``name`` means on this machine.

    If the device is a GPU, this claims it, and it becomes the only GPU that this process sees. Call it before torch is
    imported.

    Args:
        name: ``auto``, ``cpu``, ``mps``, ``cuda`` or ``cuda:N``.

    Returns:
        ``cpu``, ``mps`` or ``cuda``.

    Raises:
        MachineError: ``name`` asks for a device that this machine does not have.
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


@contextmanager
def arithmetic(device: "torch.device", precision: Precision) -> Iterator[None]:
    """Within this context, torch computes in ``precision`` on ``device``.

    bfloat16 and float16 use autocast, which is meant only for the forward pass. float32 and tf32 use
    :func:`float32_products`.
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
    """Within this context, set how ``device`` computes products and convolutions of float32 numbers.

    On CUDA the precision tf32 means TF32: factors are rounded to 10 bits of mantissa, and sums are float32. Every other
    precision means float32; torch's own default for convolutions would be TF32. Other devices always use float32.
    """
    import torch

    if device.type != "cuda":
        yield
        return
    # Use only the older switches of torch. Newer ones exist, but reading one kind after setting the other is an error.
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
    """Within this context, torch computes the same bits at every run on CUDA. Other devices do so anyway.

    Without it, gradients of attention are summed in the order in which the blocks of the GPU finish.
    """
    import torch

    if device.type != "cuda":
        yield
        return
    filling: Any = torch.utils.deterministic
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    filled = filling.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    filling.fill_uninitialized_memory = False  # not needed: nothing here reads memory before writing it
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        filling.fill_uninitialized_memory = filled


def compiled(module: "Callable[..., Any]") -> "Callable[..., Any]":
    """``module``, or a method of one, compiled by torch.compile. It compiles at the first call and at every new shape.

    A call of the result raises a MachineError if compiling fails, for example because there is no C++ compiler.
    """
    import torch
    from torch._dynamo.exc import TorchDynamoException

    fast = torch.compile(module)

    def call(*inputs: Any) -> Any:
        try:
            return fast(*inputs)
        except TorchDynamoException as error:
            reason = " ".join(str(error).partition("Set TORCHDYNAMO_VERBOSE")[0].split())[:200]
            raise MachineError(f"compile: true: torch.compile failed, set it to false: {reason}") from None

    return call
