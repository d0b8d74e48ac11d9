"""Exceptions that are shown to a user as a single line instead of a traceback.

Raised when the cause is a file, a key, an argument or the machine; the command line prints the line and exits. The
class decides whether the workflow records the failure, see :mod:`foundad.failures`.
"""


class UserError(Exception):
    """A mistake in the user's data or config: the message names the file or key, what is wrong, and what to do.

    The workflow records it in place of the outputs, so that tables show a dash with the reason.
    """


class MachineError(UserError):
    """A failure that may not occur on another machine or at another time: no GPU, memory, network or package.

    Never recorded: the job fails without outputs, and the next call runs it again.
    """


class BrokenFile(UserError):
    """A file below the results folder is missing, damaged, stale or of something else; the message says what to do.

    Never recorded, for the same reason.
    """
