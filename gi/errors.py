class InputError(ValueError):
    """Something the user gave is wrong: a file, a key, a shape. The message, one line, names it and what was expected.

    Command lines print the message without a traceback and exit with status 2.
    """


class MissingFile(InputError):
    """A file that the user named, or that a network needs, does not exist."""
