"""Finds and verifies the weights of encoders; :mod:`foundad.encoders.tensors` reads them.

Weights are looked for in this order: the path in the config, an installed package, the folder $FOUNDAD_WEIGHTS, the
Hugging Face cache and, if the caller allows it, the hub itself. Downloads are kept in the hub's cache and resumed.
"""

from pathlib import Path

from foundad.config.base import file_of
from foundad.config.encoder import Blocks, Encoder, HubWeights, LocalWeights, PackageWeights
from foundad.encoders.identity import (
    FOLDER_VARIABLE,
    cached_file,
    local_file,
    own_file,
    package_file,
)
from foundad.errors import MachineError, UserError
from foundad.files import sha256


def find_weights(settings: Encoder, download: bool = False) -> Path:
    """The verified file of an encoder's weights on this machine.

    Args:
        settings: an encoder that is not a concatenation.
        download: download the file unless the hub's cache holds it. Stages of the workflow never do, so that a run uses
            the weights that were there when it started, and jobs without network fail at once instead of waiting.

    Raises:
        UserError: the SHA-256 is not the expected one, or the config names no such file.
        MachineError: the file is not on this machine or cannot be downloaded; says how to get it, or where to put it.
    """
    source = settings.file
    weights = settings.weights
    if isinstance(weights, PackageWeights):
        return _verified(_in_package(source, weights), weights.sha256, source, f"reinstall {weights.package}")
    if isinstance(weights, LocalWeights):
        path = local_file(weights)
        if path.is_dir():
            raise UserError(f"{source}: key 'weights.path': {path} is a folder; name a file in it")
        if not path.is_file():
            raise UserError(f"{source}: key 'weights.path': there is no file {path}")
        return _verified(path, weights.sha256, source, "replace the file")
    if isinstance(weights, HubWeights):
        cure = f"remove the file and run: foundad weights {settings.id}"
        return _verified(_of_hub(settings.id, weights, download), weights.sha256, source, cure)
    raise UserError(f"{source}: key 'weights': random weights have no file")


def _of_hub(encoder: str, weights: HubWeights, download: bool) -> Path:
    path = own_file(weights)
    if path is None:
        path = _from_hub(encoder, weights) if download else cached_file(weights)
    if path is None:
        raise MachineError(f"weights of {encoder} are not here; get them with: foundad weights {encoder}")
    return path


def _verified(path: Path, expected: str | None, source: str, cure: str) -> Path:
    if expected is not None:
        try:
            found = sha256(path)
        except OSError as error:
            raise MachineError(f"{path}: cannot be read: {error.strerror or error}") from None
        if found != expected:
            raise UserError(f"{path}: SHA-256 is {found}, {source} expects {expected}; {cure}")
    return path


def _in_package(source: str, weights: PackageWeights) -> Path:
    path = package_file(weights)
    if path is None:
        raise MachineError(f"{source}: the package {weights.package} is not installed: pip install {weights.package}")
    if not path.is_file():
        raise UserError(f"{source}: key 'weights.file': the package {weights.package} holds no {weights.file}")
    return path


def _from_hub(encoder: str, weights: HubWeights) -> Path:
    from huggingface_hub import errors as hub
    from huggingface_hub import hf_hub_download

    name = f"{weights.repository}/{weights.file}"
    by_hand = f"or put the file at ${FOLDER_VARIABLE}/{name}, from a machine that has it, and set {FOLDER_VARIABLE}"
    try:
        return Path(hf_hub_download(weights.repository, weights.file, revision=weights.revision))
    except hub.GatedRepoError:
        reason = (
            f"the hub asks to accept its licence: do so on the page of {weights.repository}, then run: hf auth login"
        )
    except (hub.RepositoryNotFoundError, hub.RevisionNotFoundError, hub.EntryNotFoundError) as error:
        kind = type(error).__name__.removesuffix("NotFoundError").lower()
        if isinstance(error, hub.LocalEntryNotFoundError):
            reason = f"it is not in the cache and the hub cannot be reached: run once online: foundad weights {encoder}"
        elif weights.gated:
            reason = "the hub does not show it; if its licence must be accepted, do so and run: hf auth login"
        else:
            reason = f"the hub has no such {kind}; fix the key weights of {file_of('encoders', encoder)}"
    except (OSError, hub.HfHubHTTPError) as error:
        summary = str(error).strip().splitlines()
        reason = (
            f"the download failed ({type(error).__name__}: {summary[0] if summary else 'no reason given'}); try again"
        )
    raise MachineError(f"weights of {encoder}: {name} is missing: {reason}; {by_hand}") from None


def require_depth(settings: Encoder, found: int) -> None:
    """Raise UserError unless the network has as many blocks as the config says."""
    assert isinstance(settings.features, Blocks)
    if found != settings.features.depth:
        raise UserError(
            f"{settings.file}: key 'features.depth': {settings.model} has {found} blocks, not {settings.features.depth}"
        )
