class InputError(ValueError):
    """Something the user gave is wrong: a file, a key, a shape. The message is one line that names it and says what was expected.

    Command lines print the message without a traceback and exit with status 2.
    """
