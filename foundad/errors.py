"""Exceptions that are shown to a user as a single line instead of a traceback.

Raised wherever the cause lies in a file, a key, an argument or the machine; the command line prints the line and exits. The
class decides what the workflow keeps of a failed job, see :mod:`foundad.failures`.
"""


class UserError(Exception):
    """A mistake in the user's data or config: the message names the file or key, what is wrong, and what to do.

    The workflow records it in the place of the outputs, so that it reaches the tables as a dash with its reason.
    """


class MachineError(UserError):
    """What another machine, or this one at another time, would not stumble over: no GPU, no memory, no network, no package.

    Never recorded: the job fails, leaves nothing, and the next call does it again.
    """


class BrokenFile(UserError):
    """A file below the results folder is damaged, stale or of something else; the message says which one to delete.

    Never recorded, for the same reason.
    """
