"""What all models of the config share: their base class, ids, numbers with a range, and how they are dumped."""

import os
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

# Ids become names of files and words of commands.
_ID = r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$"
Id = Annotated[str, Field(pattern=_ID, max_length=100)]
# Of an encoder or method: the id of a file, or that of a variant of it, such as foundad@training.steps=40,top_k=3.
_CHANGE = r"[a-z][a-z0-9_.]*=[A-Za-z0-9_.+-]+"
_VARIANT_ID = rf"{_ID[:-1]}(@{_CHANGE}(,{_CHANGE})*)?$"
VariantId = Annotated[str, Field(pattern=_VARIANT_ID, max_length=200)]
_MADE_OF = "is no id: write letters, digits, _ . + and -, the first one a letter or a digit"
IN_WORDS = {  # what a value that does not match a pattern is not
    _ID: _MADE_OF,
    _VARIANT_ID: f"{_MADE_OF}, and for a variant @key=value behind it, further ones behind commas",
    r"^[0-9a-f]{64}$": "is no SHA-256: write its 64 digits, 0 to 9 and a to f",
    r"^https?://[^\s/]+/\S*$": "is no address: write it whole, from https:// to the path",
    r"^[^/\\\s.][^/\\\s]*$": "is no name of a file: write it without folders, spaces and a dot in front",
    r"^[^/\s]+/[^/\s]+$": "is no repository: write owner/name",
    r"^(auto|cpu|mps|cuda(:\d+)?)$": "is no device: write auto, cpu, mps, cuda or cuda:N",
}
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError("must be odd, so that the window has a centre")
    return value


Odd = Annotated[int, Field(ge=1), AfterValidator(_odd)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class Strict(BaseModel):
    """Base of all models: unknown keys are errors, and values cannot be changed after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def dump(model: Strict) -> dict[str, Any]:
    """All values of ``model`` as plain JSON types, defaults included. Hashes and records hold these."""
    return model.model_dump(mode="json")


def expanded(text: str) -> Path:
    """``text`` as a path, with ~ and environment variables replaced.

    A variable that is not set, or is empty, stays as it is written: ``$FOUNDAD_DATA/mpdd`` never becomes ``/mpdd``.
    """
    filled = re.sub(r"\$(?:\{(\w+)\}|(\w+))", lambda found: os.environ.get(found[1] or found[2]) or found[0], text)
    return Path(os.path.expanduser(filled))


def file_of(kind: str, name: str) -> str:
    """The YAML file of a thing, as messages name it. ``kind`` is its folder; a variant has the file of its base."""
    return f"config/{kind}/{name.partition('@')[0]}.yaml"
