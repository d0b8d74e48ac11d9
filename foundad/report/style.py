"""The look of all figures: sizes, fonts and a colour-blind-safe palette (Okabe and Ito), and how figures are saved."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from foundad.files import write_beside

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
COLUMN_WIDTH = 3.4  # inches, one column of a two-column paper

# Any: matplotlib types the keys as one long literal.
STYLE: Any = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.4,
    "lines.markersize": 4,
    "legend.frameon": False,
    "pdf.fonttype": 42,
    "figure.constrained_layout.use": True,
}


def save(figure: Figure, path: Path) -> None:
    """Write ``path`` as .png (200 dpi) and .pdf, without dates, so that equal figures are equal files."""
    for suffix, metadata in ((".png", {"Software": None}), (".pdf", {"CreationDate": None, "Producer": None})):
        with write_beside(path.with_suffix(suffix)) as temporary:
            figure.savefig(temporary, dpi=200, metadata=metadata)
    plt.close(figure)
