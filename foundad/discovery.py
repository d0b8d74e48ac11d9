"""What is one file of a folder each, found by listing it: dataset layouts, encoder libraries, metrics.

Names alone: nothing is imported here, so that the config can check names and a key holds no file that its job does not use.
"""

from functools import cache
from pathlib import Path

LAYOUTS = "foundad.data.layouts"
LIBRARIES = "foundad.encoders.libraries"
METRICS = "foundad.metrics.entries"


@cache
def modules_in(package: str) -> dict[str, str]:
    """Name of a file without its suffix -> module, of every file in the folder of ``package``, sorted."""
    folder = Path(__file__).parent.joinpath(*package.split(".")[1:])
    names = sorted(path.stem for path in folder.glob("[a-z]*.py"))
    return {name: f"{package}.{name}" for name in names if name.isidentifier()}


def layouts() -> dict[str, str]:
    """Value of a dataset's key ``layout`` -> module: the file ``mvtec_ad_2.py`` is the layout ``mvtec-ad-2``."""
    return {name.replace("_", "-"): module for name, module in modules_in(LAYOUTS).items()}


def libraries() -> dict[str, str]:
    """Value of an encoder's key ``library`` -> module."""
    return modules_in(LIBRARIES)
