"""What this package says to its user: the one exception, and the one warning."""


class GalvatronError(Exception):
    """A failure the user can act on: one line that names the thing and the remedy."""


class GalvatronWarning(UserWarning):
    """What the user should know of a result that is right: one line that names the thing."""


def first_line(error: BaseException) -> str:
    """The first non-empty line of an exception's text, or its class name when it has none."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def last_line(error: BaseException) -> str:
    """The last non-empty line: where TorchScript says what went wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
