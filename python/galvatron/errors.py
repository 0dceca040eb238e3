"""The one exception of this package that a user is meant to read."""


class GalvatronError(Exception):
    """A failure the user can act on: one line that names the thing and the remedy."""


def first_line(error: BaseException) -> str:
    """The first non-empty line of an exception's text, or its class name when it has none."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
