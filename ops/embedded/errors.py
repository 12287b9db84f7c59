"""The one error of the embedded servers."""


class EmbeddedError(Exception):
    """An embedded server, or the place where it lives, cannot be used. The message is one line for a person."""
