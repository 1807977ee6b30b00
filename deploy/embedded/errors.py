"""What goes wrong in ways the operator can mend."""


class CannotRun(Exception):
    """The message says what is wrong and what to do; it is shown without a traceback."""


class InUse(CannotRun):
    """The data folder belongs to a runner that is alive; `pid` is that runner's."""

    def __init__(self, message: str, pid: int) -> None:
        super().__init__(message)
        self.pid = pid


class NeverReady(CannotRun):
    """A component did not become ready; the message ends with the last lines of its log."""
