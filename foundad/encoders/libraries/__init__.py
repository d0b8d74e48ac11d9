"""Libraries that encoders come from: one file each, found by listing this folder; its name is the config's key ``library``.

A file defines ``build(settings)``, which gives the network with its weights: normalised images [B,3,S,S] to patch tokens
[B,N,D]. It is imported when one of its encoders is built.
"""

from foundad import discovery
from foundad.config.encoder import Encoder


def modules_of(settings: Encoder) -> tuple[str, ...]:
    """The modules of the libraries of an encoder and of its parts, sorted; no import leads to them, so keys name them."""
    own = {discovery.libraries()[settings.library]}
    return tuple(sorted(own.union(*(modules_of(part) for part in settings.parts))))
