"""One self-contained page of scored pictures: pictures, maps, scores, and a threshold to move.

``foundad predict --page`` and ``foundad run`` write it, with the look of the study's page (:mod:`foundad.report.page`).
It loads nothing over the network. Numbers come from the caller; nothing is scored here.
"""

import base64
import io
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from PIL import Image

from foundad.files import write_text
from foundad.report import page
from foundad.report.page import embedded

SIDE = 480  # pixels of the longer side of an embedded picture
QUALITY = 80
FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Scored:
    """One picture of the page: name, score, threshold (NaN if there is none), picture and overlay, each [H,W,3] uint8."""

    name: str
    score: float
    threshold: float
    picture: np.ndarray
    overlay: np.ndarray


@dataclass(frozen=True)
class Heading:
    """What the page says above the pictures: its title, the model in one line, and lines about what is not shown."""

    title: str
    model: str
    problems: list[str]


def write_predictions(path: Path, heading: Heading, pictures: Iterable[Scored]) -> None:
    """Write the page; the same arguments give the same bytes. ``pictures`` are taken one after the other."""
    rows = [
        {
            "name": one.name,
            "score": float(f"{one.score:.6g}"),
            "threshold": None if math.isnan(one.threshold) else float(one.threshold),
            "picture": _jpeg(one.picture),
            "overlay": _jpeg(one.overlay),
        }
        for one in pictures
    ]
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((FOLDER / "template.html").read_text(encoding="utf-8"))
    styles = [page.FOLDER / "page.css", FOLDER / "predictions.css"]
    text = template.render(
        heading=heading,
        css=Markup("\n".join(file.read_text(encoding="utf-8") for file in styles)),
        js=Markup((FOLDER / "predictions.js").read_text(encoding="utf-8")),
        data=embedded({"rows": rows}),
    )
    write_text(path, text)


def _jpeg(pixels: np.ndarray) -> str:
    """``pixels`` as a data URI, at most :data:`SIDE` pixels long."""
    image = Image.fromarray(pixels)
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode()}"
