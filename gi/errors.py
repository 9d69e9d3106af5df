class InputError(ValueError):
    """Something the user gave is wrong: a file, a key, a shape. The message, one line, names it and what was expected.

    Command lines print the message without a traceback and exit with status 2.
    """

    def __init__(self, message: str):
        # A DataLoader makes the error of its worker anew, with the worker's traceback before the message.
        traceback_ends = f"\n{type(self).__module__}.{type(self).__qualname__}: "
        super().__init__(message.rpartition(traceback_ends)[2].rstrip())


class MissingFile(InputError):
    """A file that the user named, or that a network needs, does not exist."""
