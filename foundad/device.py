"""Where and with how many threads torch computes; the only place that resolves ``auto``."""

import os

from foundad.errors import UserError


def limit_threads(threads: int | None) -> None:
    """Bound the threads of every numerical library; must run before numpy or torch is imported.

    A torch process of two threads beside another busy one on two cores runs many times slower than with one.
    """
    if threads is not None:
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            os.environ[name] = str(threads)


def choose_device(name: str) -> str:
    """The torch device ``auto``, ``cpu``, ``mps``, ``cuda`` or ``cuda:N`` stands for on this machine.

    Raises:
        UserError: the device was asked for by name and is not here.
    """
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    if name.startswith("cuda"):
        if not torch.cuda.is_available():
            raise UserError(f"device '{name}': this machine has no usable CUDA GPU; choose cpu or auto")
        index = int(name.partition(":")[2] or 0)
        if index >= torch.cuda.device_count():
            raise UserError(f"device '{name}': this machine has {torch.cuda.device_count()} GPUs, counted from 0")
    if name == "mps" and not torch.backends.mps.is_available():
        raise UserError("device 'mps': this machine has no usable Apple GPU; choose cpu or auto")
    return name
