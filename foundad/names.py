"""Hints for names that people wrote: the right one that is nearest to a wrong one, and what is wrong with a CSV's header."""

import difflib
from collections.abc import Iterable, Sequence

LONGEST_NAME = 100  # characters of a wrong name that are compared with the right ones


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for a wrong name: the most similar known one, else all of them."""
    known = sorted(known)
    close = difflib.get_close_matches(name[:LONGEST_NAME], known, n=1, cutoff=0.6)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; known: {', '.join(known)}" if known else ""


def delimiter(names: Sequence[str]) -> str:
    """What is wrong with a CSV's header ``names`` if another sign than the comma stands between its columns, or nothing."""
    for sign, word in ((";", "';'"), ("\t", "a tab"), ("|", "'|'")):
        if len(names) == 1 and sign in names[0]:
            return f"; {word} stands between its columns, and it must be a comma"
    return ""
