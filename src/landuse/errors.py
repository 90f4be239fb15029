"""Exceptions that mean something to the commands."""


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


class DifferentError(Exception):
    """A run that was repeated came out different. Neither a mistake nor a failure of the program: it is the answer."""


class SweepFailedError(Exception):
    """More trials of a sweep failed than it allows. The message is for people; the failures are on record."""
