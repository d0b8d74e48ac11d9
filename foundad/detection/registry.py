"""Which detectors there are: FoundAD, and one file each in baselines/.

A detector is named by its method file's key ``detector``. A baseline's module defines ``Settings`` (a subclass of
:class:`foundad.config.Method`, its own keys beside the common ones) and ``Detector`` (see :mod:`foundad.detection.model`);
it must not import torch when it is imported, because validation and planning read its settings.
"""

import importlib
from functools import cache
from pathlib import Path
from typing import Any

from foundad.config import FoundAD, Method
from foundad.device import Compute


@cache
def detectors() -> dict[str, tuple[str, str]]:
    """Name -> (module, class) of every detector; baselines are found by their file names."""
    import baselines

    folder = Path(baselines.__path__[0])
    names = sorted(path.stem for path in folder.glob("[a-z]*.py"))
    return {"foundad": ("foundad.method.detector", "FoundADDetector")} | {
        n: (f"baselines.{n}", "Detector") for n in names
    }


@cache
def settings_of(detector: str) -> type[Method]:
    """The strict settings model of ``detector``; KeyError if there is no such detector."""
    if detector == "foundad":
        return FoundAD
    return importlib.import_module(detectors()[detector][0]).Settings


def build(settings: Method, seed: int, compute: Compute) -> Any:
    """A fresh detector with these settings; what trains is told more than the device."""
    module, name = detectors()[settings.detector]
    detector = getattr(importlib.import_module(module), name)
    return detector(settings, seed, compute if settings.trains else compute.device)
