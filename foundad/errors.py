"""The one exception that is shown to a user as a single line instead of a traceback.

Raised wherever the cause lies in a file, a key or an argument of the user; the command line prints it and exits.
"""


class UserError(Exception):
    """A mistake the user can mend: the message names the file or key, what is wrong, and what to do."""
