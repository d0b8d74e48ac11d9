"""Where an encoder's weights lie on this machine; neither torch nor the network is needed to say it.

Keys and records are made from the file found here, before any stage runs. It is the file that a stage would load:
:mod:`foundad.encoders.weights` looks through this module and adds the check of the hash and the download.
"""

import importlib.util
import os
from pathlib import Path

from foundad.config import Encoder, HubWeights, LocalWeights, PackageWeights

FOLDER_VARIABLE = "FOUNDAD_WEIGHTS"


def weights_file(settings: Encoder) -> Path | None:
    """The file of an encoder's weights: its package's, its own path, below $FOUNDAD_WEIGHTS, or in the hub's cache.

    Nothing is downloaded and nothing is read of the file. None: it is not on this machine, or the weights are random.
    A concatenation has no file of its own, ask for its parts.
    """
    if settings.parts:
        return None
    weights = settings.weights
    path: Path | None = None
    if isinstance(weights, PackageWeights):
        folder = package_folder(weights.module)
        path = folder and folder / weights.file
    elif isinstance(weights, LocalWeights):
        path = local_path(weights)
    elif isinstance(weights, HubWeights):
        own = own_path(weights)
        path = own if own is not None and os.path.isfile(own) else cached(weights)
    return path if path is not None and os.path.isfile(path) else None


def package_folder(module: str) -> Path | None:
    """The folder of an installed package, which is not imported; None where it is not installed."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


def local_path(weights: LocalWeights) -> Path:
    """The path that a config gives, with ``~`` and ``$NAME`` replaced."""
    return Path(os.path.expanduser(os.path.expandvars(weights.path)))


def own_path(weights: HubWeights) -> Path | None:
    """Where the file would lie below $FOUNDAD_WEIGHTS; None where that is not set."""
    folder = os.environ.get(FOLDER_VARIABLE)
    return Path(folder, weights.repository, weights.file) if folder else None


def cached(weights: HubWeights) -> Path | None:
    """The file in the hub's cache, at the commit that a branch or tag had when it was last asked for; None if absent.

    Read from the cache's documented layout (refs/ and snapshots/): its library takes a second to import.
    """
    repository = cache_folder() / f"models--{weights.repository.replace('/', '--')}"
    try:
        commit = (repository / "refs" / weights.revision).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        commit = weights.revision
    path = repository / "snapshots" / commit / weights.file
    return path if os.path.isfile(path) else None


def cached_commit(path: Path) -> str | None:
    """The commit of a file in the hub's cache, by its path; None for a file that lies elsewhere."""
    parts = path.parts
    if "snapshots" not in parts or cache_folder() not in path.parents:
        return None
    return parts[len(parts) - 1 - parts[::-1].index("snapshots") + 1]


def cache_folder() -> Path:
    """The folder of the hub's cache, by the variables that its library knows, in their order."""
    environment = os.environ
    home = environment.get("HF_HOME") or Path(environment.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    hub = environment.get("HF_HUB_CACHE") or environment.get("HUGGINGFACE_HUB_CACHE") or Path(home) / "hub"
    return Path(os.path.expanduser(os.path.expandvars(hub)))
