"""Empty modules in place of those that a script imports and that a comparison does not use."""

import sys
from types import ModuleType


def stand_in(name: str, *defined: str) -> None:
    """Put a module ``name`` and its parents in place, with names that mean nothing."""
    parts = name.split(".")
    for length in range(1, len(parts) + 1):
        sys.modules[".".join(parts[:length])] = ModuleType(".".join(parts[:length]))
    for function in defined:
        setattr(sys.modules[name], function, None)
