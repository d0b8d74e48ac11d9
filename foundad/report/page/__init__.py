"""Stage ``report``: writes the whole study as one self-contained page, results/report/index.html.

The last stage. It reads metrics.parquet, runs.parquet and the finished tables and figures, and fills template.html with
page.css, page.js and one block of JSON (:mod:`foundad.report.page.data`). The page loads nothing over the network; its
content security policy (CSP) forbids that.
"""

import base64
import gzip
import json
import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from foundad.failures import require
from foundad.files import write_text
from foundad.paths import Results
from foundad.report.page.assets import Figure, Table, figures, sweeps, tables
from foundad.report.page.data import Study, study
from foundad.report.page.overview import Overview, overview

if TYPE_CHECKING:
    from foundad.config.experiment import Experiment
    from foundad.plan.catalogue import Catalogue

FOLDER = Path(__file__).parent


def write_page(results: Results, catalogue: "Catalogue", experiments: Sequence["Experiment"]) -> None:
    """Write the page of ``experiments``; the same inputs give the same bytes.

    Raises:
        UserError: metrics.parquet, runs.parquet, or a table or figure is missing.
    """
    require([results.metrics, results.runs])
    found = study(results, catalogue, experiments)
    found.payload["sweeps"] = [sweep for one in experiments for sweep in sweeps(results, one)]
    text = render(
        found,
        overview(found, catalogue, experiments),
        [(one, tables(results, one), figures(results, one)) for one in experiments],
    )
    write_text(results.report, text)


def render(
    found: Study,
    summary: Overview,
    sections: Sequence[tuple["Experiment", Sequence[Table], Sequence[Figure]]],
) -> str:
    """The page as text. Jinja escapes every value; no character of the JSON can end its block."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    # The installed package's bundle, compressed to a third of its size; the page unpacks it when it is needed.
    plotly = resources.files("plotly").joinpath("package_data", "plotly.min.js").read_bytes()
    template = environment.from_string((FOLDER / "template.html").read_text(encoding="utf-8"))
    return template.render(
        css=Markup((FOLDER / "page.css").read_text(encoding="utf-8")),
        js=Markup((FOLDER / "page.js").read_text(encoding="utf-8")),
        data=embedded(found.payload),
        plotly=Markup(base64.b64encode(gzip.compress(plotly, 9, mtime=0)).decode()),
        plotly_version=next(iter(re.findall(r"plotly\.js (v\S+)", plotly[:200].decode())), ""),
        summary=summary,
        sections=sections,
        galleries=[figure for _, _, drawn in sections for figure in drawn if figure.gallery],
    )


def embedded(value: Any) -> Markup:
    """``value`` as JSON for a script element: no <, > or &, so that no text in it can end the element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)
