"""What a detector is told of the pictures that it scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Pictures:
    """Pictures under one query view, as a detector reads them.

    tokens: [B,N,D] float32, prepared patch tokens. inside: [B,N] bool, patches that show the picture; None = all. The
    others are padding. arrays: further arrays of the encoder by name, such as ``class`` [B,C] float32, as they are stored.
    ids: of the images. A detector gets those arrays and ids that its settings need.
    """

    tokens: np.ndarray
    inside: np.ndarray | None = None
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    ids: Sequence[str] = ()
