"""Finds the file of an encoder's weights on this machine, without torch and the network and in milliseconds.

The plan asks for every encoder at every call, because its keys include the file; :mod:`foundad.encoders.weights` asks
before it reads. Nothing here opens a file of weights or checks it.
"""

import importlib.util
import os
import re
from collections.abc import Iterable
from pathlib import Path

from foundad.config.base import expanded
from foundad.config.encoder import Encoder, HubWeights, LocalWeights, PackageWeights

FOLDER_VARIABLE = "FOUNDAD_WEIGHTS"
_COMMIT = re.compile("[0-9a-f]{40}")


def weights_file(settings: Encoder) -> Path | None:
    """The file of weights that an encoder would read now, or None if it is not on this machine.

    It is looked for in the order of :mod:`foundad.encoders.weights`; nothing is downloaded. None for random weights,
    and for a concatenation, which has no file of its own: :func:`weight_owners` gives its parts.
    """
    if settings.parts:
        return None
    weights = settings.weights
    if isinstance(weights, PackageWeights):
        path = package_file(weights)
    elif isinstance(weights, LocalWeights):
        path = local_file(weights)
    elif isinstance(weights, HubWeights):
        path = own_file(weights) or cached_file(weights)
    else:
        return None
    return path if path is not None and path.is_file() else None


def weight_owners(encoders: Iterable[Encoder]) -> list[Encoder]:
    """Those of ``encoders`` that have a file of weights; a concatenation is replaced by its parts."""
    flat = [part for encoder in encoders for part in (encoder.parts or [encoder])]
    return [encoder for encoder in flat if encoder.weights != "random"]


def package_file(weights: PackageWeights) -> Path | None:
    """Where an installed package keeps the file, present or not; None if the package is not installed."""
    try:
        spec = importlib.util.find_spec(weights.module)
    except (ImportError, ValueError):
        return None
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]) / weights.file


def local_file(weights: LocalWeights) -> Path:
    """The path of the config, with ``~`` and variables expanded."""
    return expanded(weights.path)


def own_file(weights: HubWeights) -> Path | None:
    """The file in the folder that $FOUNDAD_WEIGHTS names, or None if it is not there."""
    folder = os.environ.get(FOLDER_VARIABLE)
    path = Path(folder, weights.repository, weights.file) if folder else None
    return path if path is not None and path.is_file() else None


def cached_file(weights: HubWeights) -> Path | None:
    """The file in the hub's cache at the revision of the config, or None if it is not there."""
    folder = _hub_cache() / f"models--{weights.repository.replace('/', '--')}"
    commit = weights.revision
    if not _COMMIT.fullmatch(commit):
        try:
            commit = (folder / "refs" / commit).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeError):
            return None
    path = folder / "snapshots" / commit / weights.file
    return path if path.is_file() else None


def cached_commit(path: Path) -> str | None:
    """The hub's commit that a file in the hub's cache belongs to; None for a file elsewhere."""
    for folder in path.parents:
        if folder.parent.name == "snapshots" and _COMMIT.fullmatch(folder.name):
            return folder.name
    return None


def _hub_cache() -> Path:
    """The folder of the hub's cache, from the environment variables that the hub's client reads."""
    given = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    if not given:
        home = os.environ.get("HF_HOME") or f"{os.environ.get('XDG_CACHE_HOME') or '~/.cache'}/huggingface"
        given = f"{home}/hub"
    return Path(os.path.expanduser(os.path.expandvars(given)))
