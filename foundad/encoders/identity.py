"""Where the weights of an encoder lie on this machine, found without torch and without a network: what keys are made of.

Looked for where :mod:`foundad.encoders.weights` looks, which also verifies and downloads.
"""

import importlib.util
import os
from pathlib import Path

from foundad.config import Encoder, HubWeights, LocalWeights, PackageWeights

FOLDER_VARIABLE = "FOUNDAD_WEIGHTS"


def weights_file(settings: Encoder) -> Path | None:
    """The file of the weights of ``settings``; None where it is not here, or weights are random."""
    weights = settings.weights
    path: Path | None = None
    if isinstance(weights, LocalWeights):
        path = Path(os.path.expanduser(os.path.expandvars(weights.path)))
    elif isinstance(weights, PackageWeights):
        spec = importlib.util.find_spec(weights.module)
        if spec is not None and spec.submodule_search_locations:
            path = Path(spec.submodule_search_locations[0], weights.file)
    elif isinstance(weights, HubWeights):
        folder = os.environ.get(FOLDER_VARIABLE)
        path = Path(folder, weights.repository, weights.file) if folder else None
        if path is None or not path.is_file():
            path = _in_cache(weights)
    return path if path is not None and path.is_file() else None


def _in_cache(weights: HubWeights) -> Path | None:
    """In the hub's cache: models--<owner>--<name>/snapshots/<commit>/<file>, with refs/<branch> naming the commit."""
    home = os.environ.get("HF_HOME", os.path.join(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "huggingface"))
    cache = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE") or os.path.join(home, "hub")
    folder = Path(os.path.expanduser(cache), f"models--{weights.repository.replace('/', '--')}")
    reference = folder / "refs" / weights.revision
    try:
        commit = reference.read_text(encoding="utf-8").strip() if reference.is_file() else weights.revision
    except (OSError, ValueError):
        return None
    return folder / "snapshots" / commit / weights.file
