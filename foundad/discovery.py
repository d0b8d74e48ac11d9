"""Finds dataset layouts, encoder libraries and metrics by listing their folders: each is one file.

Nothing is imported here, so the config can check names cheaply and a job's key covers only the files that it uses.
"""

from functools import cache
from pathlib import Path

LAYOUTS = "foundad.data.layouts"
LIBRARIES = "foundad.encoders.libraries"
METRICS = "foundad.metrics.entries"


@cache
def modules_in(package: str) -> dict[str, str]:
    """File name without suffix -> module, for every file in the folder of ``package``, sorted."""
    folder = Path(__file__).parent.joinpath(*package.split(".")[1:])
    names = sorted(path.stem for path in folder.glob("[a-z]*.py"))
    return {name: f"{package}.{name}" for name in names if name.isidentifier()}


def layouts() -> dict[str, str]:
    """Value of a dataset's key ``layout`` -> module: the file ``mvtec_ad_2.py`` is the layout ``mvtec-ad-2``."""
    return {name.replace("_", "-"): module for name, module in modules_in(LAYOUTS).items()}


def libraries() -> dict[str, str]:
    """Value of an encoder's key ``library`` -> module."""
    return modules_in(LIBRARIES)
