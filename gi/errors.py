"""Errors that a user caused, and recurring checks of arguments."""
import contextlib
import math
import traceback
from collections.abc import Iterator
from pathlib import PurePath
from typing import Any


class InputError(ValueError):
    """Something the user gave is wrong: a file, a key, a shape. The message, one line, names it and what was expected.

    Command lines print the message without a traceback and exit with status 2.
    """

    def __init__(self, message: str):
        # A DataLoader re-raises an error of its worker with the worker's traceback before the message.
        traceback_ends = f"\n{type(self).__module__}.{type(self).__qualname__}: "
        super().__init__(message.rpartition(traceback_ends)[2].rstrip())


class MissingFile(InputError):
    """A file that the user named, or that a network needs, does not exist."""


def one_line(error: BaseException, longest: int = 400) -> str:
    """The message of an error from another library in one line; with its type and source line where it may be a bug."""
    text = " ".join(str(error).split())
    if len(text) > longest:
        text = f"{text[:longest]} …"
    if isinstance(error, ValueError | RuntimeError | ImportError) or type(error).__module__ != "builtins":
        return text or type(error).__name__
    *_, (frame, line) = traceback.walk_tb(error.__traceback__)
    return f"{type(error).__name__}: {text} ({PurePath(frame.f_code.co_filename).name}:{line})"


@contextlib.contextmanager
def memory_named(message: str) -> Iterator[None]:
    """Turns an out-of-memory error into an InputError with this message, which should say what helps."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # torch's messages: the first for a GPU, the others for the CPU.
        words = "out of memory", "can't allocate memory", "not enough memory"
        if isinstance(error, RuntimeError) and not any(word in str(error) for word in words):
            raise
        raise InputError(message) from error


def expect_at_least(lowest: float, **numbers: float) -> None:
    """Raises InputError, naming it, for the first of the arguments that is below `lowest`, infinite or nan."""
    for name, number in numbers.items():
        if not lowest <= number < math.inf:
            raise InputError(f"{name}: expected {'a finite number' if number > lowest else f'at least {lowest}'}, got "
                             f"{number}")


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
    """The tensor, if all of it is finite; else raises InputError: as pixels, NaN would become arbitrary colours."""
    if not prediction.isfinite().all():
        raise InputError("the network's result is not finite: its weights are damaged, or not for this precision")
    return prediction
