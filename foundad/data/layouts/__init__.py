"""Directory layouts: one file each, found by listing this folder; the file's name is the config's key ``layout``."""

from functools import cache
from importlib import import_module

from foundad import discovery
from foundad.data.layout import Layout
from foundad.errors import UserError


@cache
def layout_of(name: str) -> Layout:
    """The layout that a dataset's key ``layout`` names; its file is imported when it is asked for.

    Raises:
        UserError: its file declares no ``LAYOUT``.
    """
    module = discovery.layouts()[name]
    found = getattr(import_module(module), "LAYOUT", None)
    if not isinstance(found, Layout):
        path = f"{module.replace('.', '/')}.py"
        raise UserError(f"{path}: declares no LAYOUT; end it with LAYOUT = Layout(read=…), see docs/adding.md")
    return found
