"""Libraries that encoders come from: one file each, found by listing this folder; its name is the config's key ``library``.

A file defines ``build(settings)``, which gives the network with its weights: normalised images [B,3,S,S] to patch tokens
[B,N,D]. It is imported when one of its encoders is built.
"""

from foundad import discovery
from foundad.config import Encoder


def modules_of(settings: Encoder) -> tuple[str, ...]:
    """The library modules of an encoder and its parts, sorted. No import statement names them, so keys must."""
    own = {discovery.libraries()[settings.library]}
    return tuple(sorted(own.union(*(modules_of(part) for part in settings.parts))))
