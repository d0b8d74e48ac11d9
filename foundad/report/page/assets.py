"""Finished tables and figures of an experiment as the page embeds them: the HTML of a table, pictures as data URIs, and
the points of curves, which the page draws again interactively."""

import base64
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
from markupsafe import Markup
from PIL import Image

from foundad.failures import require
from foundad.paths import Results
from foundad.report.formats import read_fragment

if TYPE_CHECKING:
    from foundad.config.experiment import Experiment

GALLERY_WIDTH = 1400  # pixels
QUALITY = 82


@dataclass(frozen=True)
class Table:
    """One table: its element with its notes, its full caption, and the paths of its files, relative to the page.

    The caption is printed above the element, so that it does not become as wide as the table.
    """

    name: str
    caption: str
    note: Markup
    markup: Markup
    files: list[str]


@dataclass(frozen=True)
class Figure:
    """One figure: data URI, size in pixels, and the paths of its files, relative to the page."""

    name: str
    title: str
    experiment: str
    gallery: bool
    source: str
    width: int
    height: int
    files: list[str]


def tables(results: Results, experiment: "Experiment") -> list[Table]:
    """The tables of ``experiment``, which the stage ``table`` wrote and escaped."""
    found = []
    for name, table in experiment.tables.items():
        path = results.table(experiment.id, name, "html")
        require([path])
        fragment = read_fragment(path)
        files = [f"../tables/{experiment.id}/{name}.{suffix}" for suffix in ("md", "tex", "csv", "html")]
        found.append(Table(name, table.caption, Markup(fragment.caption), Markup(fragment.element), files))
    return found


def figures(results: Results, experiment: "Experiment") -> list[Figure]:
    """The figures of ``experiment``: photographs as JPEG, the others without loss as WebP."""
    found = []
    for name, figure in experiment.figures.items():
        path = results.figure(experiment.id, name, "png")
        require([path])
        gallery = figure.photographs
        with Image.open(path) as image:
            kind, data, (width, height) = _jpeg(image) if gallery else _webp(image)
        source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
        files = [f"../figures/{experiment.id}/{name}.{suffix}" for suffix in ("png", "pdf", "csv")]
        found.append(Figure(name, figure.title, experiment.title, gallery, source, width, height, files))
    return found


def sweeps(results: Results, experiment: "Experiment") -> list[dict[str, Any]]:
    """The curves of ``experiment`` as numbers, from the CSV beside each: title, axis, and columns of points."""
    found = []
    for name, figure in experiment.figures.items():
        if not figure.redrawn:
            continue
        path = results.figure(experiment.id, name, "csv")
        require([path])
        table = pd.read_csv(path, keep_default_na=False, dtype=str)
        if table.empty:
            continue
        line, x = table.columns[2:4]
        columns = {"panel": table["panel"], "metric": table["metric"], "line": table[line], "x": table[x]}
        points = {key: column.tolist() for key, column in columns.items()}
        numbers = {key: [float(value) if value else None for value in table[key]] for key in ("mean", "std", "seeds")}
        title = figure.title if figure.title == experiment.title else f"{experiment.title}: {figure.title}"
        found.append({"title": title, "label": figure.axis_label or x, **points, **numbers})
    return found


def _jpeg(image: Image.Image) -> tuple[str, bytes, tuple[int, int]]:
    small = image.convert("RGB")
    if small.width > GALLERY_WIDTH:
        height = round(small.height * GALLERY_WIDTH / small.width)
        small = small.resize((GALLERY_WIDTH, height), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    small.save(out, "JPEG", quality=QUALITY, optimize=True)
    return "jpeg", out.getvalue(), small.size


def _webp(image: Image.Image) -> tuple[str, bytes, tuple[int, int]]:
    """Lossless WebP: the pixels of the PNG in half the bytes."""
    out = io.BytesIO()
    image.convert("RGB").save(out, "WEBP", lossless=True)
    return "webp", out.getvalue(), image.size
