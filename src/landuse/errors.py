"""Exceptions that mean something to the commands."""

LONGEST_MESSAGE = 3000  # characters


def printable(text: str, longest: int = LONGEST_MESSAGE) -> str:
    """Text for a terminal: what files of strangers put into it can neither steer the terminal nor flood it."""
    if len(text) > longest:
        text = f"{text[: longest * 2 // 3]} [...] {text[-longest // 3 :]}"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


class UserError(Exception):
    """A mistake in what the user asked for or supplied.

    Its message is one or two sentences that name the cause and the cure. Commands print it on stderr without a
    traceback and exit with status 2; every other exception is a failure of the program and shows its traceback.
    """


class Interrupted(BaseException):
    """The process was asked to stop (SIGINT or SIGTERM). Not an ``Exception``: nothing may swallow it by accident."""

    def __init__(self, signal_number: int, message: str = "Interrupted.") -> None:
        super().__init__(message)
        self.signal_number = signal_number


class PrunedError(Exception):
    """A sweep stopped this trial early because others do better. No failure: the sweep goes on."""


class FailureError(Exception):
    """What its message explains, so that no traceback is shown; commands exit with status 1."""


class DifferentError(FailureError):
    """A run that was repeated came out different. Neither a mistake nor a failure of the program: it is the answer."""


class DriftError(FailureError):
    """Images are not like those that a model was validated on. Neither a mistake nor a failure: it is the answer."""


class SweepFailedError(FailureError):
    """More trials of a sweep failed than it allows. The message is for people; the failures are on record."""


class PeerLostError(FailureError):
    """One of the processes that train a model together has ended, and the others cannot go on."""
