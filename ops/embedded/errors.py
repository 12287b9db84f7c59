"""The one error of the embedded servers."""


class EmbeddedError(Exception):
    """An embedded server, or its data folder, cannot be used. The message is one line for a person."""
