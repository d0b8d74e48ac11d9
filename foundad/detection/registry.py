"""Finds the detectors: FoundAD, and every file and folder of baselines/.

A method file names its detector in the key ``detector``. A simple detector is a file ``NAME.py`` with the classes
``Settings`` (a :class:`foundad.config.method.Method` with keys of its own) and ``Detector`` (a
:class:`foundad.detection.protocol.Detector`). A trained one is a folder ``NAME`` with ``Settings`` in settings.py and
``Detector`` in detector.py, which may import torch; all other files there are helpers. Validation and planning read
settings, so neither ``NAME.py`` nor settings.py imports torch at its top.
"""

import importlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from foundad.config.method import Method
from foundad.device import Compute
from foundad.errors import UserError

if TYPE_CHECKING:  # planning only reads settings
    from foundad.detection.protocol import Detector


class Modules(NamedTuple):
    """The modules that define the detector and the settings of a method."""

    detector: str
    settings: str


@cache
def detectors() -> dict[str, Modules]:
    """Name -> modules of every detector; rivals are named after their files and folders.

    Raises:
        UserError: two detectors have the same name.
    """
    import baselines

    found = {"foundad": _of_package("foundad.method")}
    for folder in map(Path, baselines.__path__):
        files = {path.stem: path for path in sorted(folder.glob("[a-z]*.py"))}
        packages = {path.parent.name: path.parent for path in sorted(folder.glob("[a-z]*/detector.py"))}
        packages = {name: path for name, path in packages.items() if (path / "settings.py").is_file()}
        for name, path in (*files.items(), *packages.items()):
            if name in found:
                raise UserError(f"{path}: there are two detectors called '{name}'; rename one")
            module = f"baselines.{name}"
            found[name] = Modules(module, module) if name in files else _of_package(module)
    return found


def _of_package(package: str) -> Modules:
    return Modules(f"{package}.detector", f"{package}.settings")


@cache
def settings_of(detector: str) -> type[Method]:
    """The strict settings model of ``detector``; raises KeyError if there is no such detector."""
    found: type[Method] = _defined(detectors()[detector].settings, "Settings", Method)
    return found


def build(settings: Method, seed: int, compute: Compute) -> "Detector":
    """A new detector with these settings, not yet fitted."""
    from foundad.detection import protocol

    detector: type[Detector] = _defined(detectors()[settings.detector].detector, "Detector", protocol.Detector)
    return detector(settings, seed, compute)


def _defined(module: str, name: str, base: type) -> Any:
    """The class ``name`` of ``module``.

    Raises:
        UserError: there is no such class, or it does not derive from ``base``.
    """
    found = vars(importlib.import_module(module)).get(name)
    if not (isinstance(found, type) and issubclass(found, base)):
        raise UserError(
            f"{module}: defines no class '{name}' that is a {base.__module__}.{base.__name__}; see docs/adding.md"
        )
    return found
