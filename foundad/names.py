"""Suggests a known name for a misspelt one."""

import difflib
from collections.abc import Iterable, Sequence

LONGEST_NAME = 100  # characters of a wrong name that are compared with the right ones


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a message about a wrong name: suggests the most similar known name, else lists all known names."""
    known = sorted(known)
    close = difflib.get_close_matches(name[:LONGEST_NAME], known, n=1, cutoff=0.6)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; known: {', '.join(known)}" if known else ""


def delimiter(names: Sequence[str]) -> str:
    """What is wrong with a CSV's header ``names`` if another sign than the comma stands between its columns, or nothing."""
    for sign, word in ((";", "';'"), ("\t", "a tab"), ("|", "'|'")):
        if len(names) == 1 and sign in names[0]:
            return f"; {word} separates its columns, and it must be a comma"
    return ""
