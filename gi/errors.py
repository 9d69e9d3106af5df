"""Errors of the user, and the checks of arguments that recur."""
from typing import Any


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


def expect_at_least(lowest: float, **numbers: float) -> None:
    """Raises InputError, naming it, for the first of the arguments that is below `lowest`."""
    for name, number in numbers.items():
        if number < lowest:
            raise InputError(f"{name}: expected at least {lowest}, got {number}")


def expect_within(lowest: float, highest: float, **numbers: float) -> None:
    """Raises InputError, naming it, for the first of the arguments that is not in [lowest, highest]."""
    for name, number in numbers.items():
        if not lowest <= number <= highest:
            raise InputError(f"{name}: expected a number in [{lowest}, {highest}], got {number}")


def expect_kind(part: Any, kind: type, name: str) -> Any:
    """`part`, if it is a `kind`; else raises InputError, which calls it `name`."""
    if not isinstance(part, kind):
        raise InputError(f"{name}: {type(part).__name__} is not derived from {kind.__module__}.{kind.__name__}")
    return part


def expect_finite(prediction: Any) -> Any:
    """The tensor, if all of it is finite; else raises InputError: rounding to pixels would make anything of it."""
    if not prediction.isfinite().all():
        raise InputError("the network's result is not finite: its weights are damaged, or not for this precision")
    return prediction
