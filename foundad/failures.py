"""Failed stages leave a marker instead of their outputs, so that a failure reaches the tables as a dash with its reason.

A marker is a small JSON file under the output's own name; no reader takes it for the real thing, because every stage
asks :func:`require` before it reads. Snakemake sees a finished job and goes on; the target ``status`` fails at the end.
"""

import json
from collections.abc import Iterable
from pathlib import Path

from foundad.errors import UserError
from foundad.files import write_text

_KEY = "foundad_failure"
_START = b'{"' + _KEY.encode()


class UpstreamFailure(UserError):
    """An input of this stage is the marker of an earlier failure; the message is that failure's reason."""


def write_failure(outputs: Iterable[Path], reason: str) -> None:
    """Put a marker with ``reason`` in the place of every output."""
    for path in outputs:
        write_text(path, json.dumps({_KEY: reason}) + "\n")


def failure_of(path: Path) -> str | None:
    """The reason a marker at ``path`` gives, or None if it is no marker."""
    with open(path, "rb") as file:
        if file.read(len(_START)) != _START:
            return None
    return str(json.loads(path.read_text(encoding="utf-8"))[_KEY])


def require(paths: Iterable[Path]) -> None:
    """All ``paths`` exist and none is a marker.

    Raises:
        UserError: a file is missing; the message names the stage's inputs.
        UpstreamFailure: a file is a marker.
    """
    for path in paths:
        if not path.is_file():
            raise UserError(f"{path}: there is no such file; make it with: snakemake --cores all {path}")
        reason = failure_of(path)
        if reason is not None:
            raise UpstreamFailure(reason)
