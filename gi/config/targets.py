"""Which classes and functions a `target` of a configuration may name, and how they are looked up.

A configuration often comes with a checkpoint from elsewhere, and `os.system` is a function like any other. So it may
only name the classes that configurations are made of, which do nothing worse than compute and read, and what the user
allows: `--allow my_package` on the command line, or `allow` in Python.
"""
import difflib
import importlib
import importlib.util
import inspect
import pkgutil
from collections.abc import Callable, Iterable

from gi.errors import InputError

_PACKAGES = "models", "losses", "flow", "data", "metrics", "training", "internal", "diffusion"
# Where the public classes that may be named are defined. Not functions: some of those write files or fetch them.
CLASSES_OF = (
    *(f"gi.{folder}" for folder in _PACKAGES),
    "torch.nn",
    *(f"torchvision.{part}" for part in ("transforms", "models", "ops")),
)
# The classes of Lightning that may be named, by the only section where each may be. Others write, delete or send files
# as soon as they are built; these write below the folder of a run only, which is checked where a run is built.
LIGHTNING = {
    "lightning.callbacks": ("DeviceStatsMonitor", "EarlyStopping", "LearningRateMonitor", "ModelCheckpoint",
                            "ModelSummary", "RichModelSummary", "RichProgressBar", "Timer", "TQDMProgressBar"),
    "lightning.logger": ("CSVLogger", "TensorBoardLogger"),
    "lightning.trainer": ("DDPStrategy", "FSDPStrategy", "SingleDeviceStrategy"),
}
_LIGHTNING_PARTS = tuple(f"{package}.{part}" for package in ("pytorch_lightning", "lightning.pytorch")
                         for part in ("callbacks", "strategies", "loggers.csv_logs", "loggers.tensorboard"))
_allowed: set[str] = set()


def allow(*packages: str) -> None:
    """Lets the configurations of this process name every public class and function defined in these packages."""
    _allowed.update(packages)


def nearest(name: object, known: Iterable, otherwise: str = "") -> str:
    """"; did you mean …?" with the entry of `known` most like `name`, or `otherwise` when none is."""
    match = difflib.get_close_matches(str(name), [str(k) for k in known], 1, 0.6)
    return f"; did you mean {match[0]}?" if match else otherwise


def find_target(name: str, path: str) -> Callable:
    """The class or function `name` ("package.module.Name") stands for.

    Modules of other packages are not even imported. The object must be *defined* in one of the allowed packages, not
    only imported there. Raises InputError that begins with `path`, also for a name that does not exist.
    """
    parts = name.split(".")
    if len(parts) < 2 or not all(part.isidentifier() for part in parts):
        raise InputError(f"{path}.target: {name!r} is not of the form package.module.Name")
    module, depth = _import(name, parts, path)
    if module is None:
        raise InputError(f"{path}.target: {name}: there is no module {parts[0]}{nearest(parts[0], ['gi', 'torch'])}")
    target = module
    for position in range(depth, len(parts)):
        owner, part = target, parts[position]
        target = None if part.startswith("_") else getattr(owner, part, None)
        if target is None:
            prefix, rest = ".".join(parts[:position]), parts[position + 1:]
            known = [key for key, value in getattr(owner, "__dict__", {}).items() if callable(value)]
            if owner is module:
                known += [info.name for info in pkgutil.iter_modules(getattr(module, "__path__", ()))]
            full = [".".join([prefix, key, *rest]) for key in known if not key.startswith("_")]
            raise InputError(f"{path}.target: {name}: {prefix} has no {part}{nearest(name, full)}")
    if not callable(target):
        raise InputError(f"{path}.target: {name} is neither a class nor a function")
    named = isinstance(target, type) or inspect.isroutine(target)
    # An instance has no module of its own, so that of its name counts.
    origin = str(getattr(target, "__module__", None)) if named else module.__name__
    known = isinstance(target, type) and (_within(origin, CLASSES_OF) or _within(origin, _LIGHTNING_PARTS)
                                          and target.__name__ in LIGHTNING.get(path.rpartition(".")[0], ()))
    if not known and not _within(origin, _allowed):
        raise _refused(name, path)
    return target


def _import(name, parts, path):
    """The innermost module that `name` begins with, and how many of its parts that takes; (None, 0) without any."""
    module = None
    for depth in range(1, len(parts) + 1):
        prefix = ".".join(parts[:depth])
        allowed = *CLASSES_OF, *_LIGHTNING_PARTS, *_allowed
        if not _within(prefix, allowed) and not any(_within(package, [prefix]) for package in allowed):
            if _exists(prefix):
                raise _refused(name, path)
            return module, depth - 1
        try:
            module = importlib.import_module(prefix)
        except ModuleNotFoundError as error:
            if error.name != prefix:  # the module exists and lacks something itself
                raise InputError(f"{path}.target: importing {name} failed: {error}") from error
            return module, depth - 1
        except Exception as error:  # whatever the module does while it is imported
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise InputError(f"{path}.target: importing {name} failed: {reason}") from error
    return module, len(parts)


def _within(name, packages):
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def _exists(module):
    """Whether there is such a module; its parents have been imported, it is not."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _refused(name, path):
    of_lightning = LIGHTNING.get(path.rpartition(".")[0])
    expected = f"Lightning's {', '.join(of_lightning)}" if of_lightning else "torch.nn or torchvision"
    return InputError(f"{path}.target: {name} is not allowed here, expected a class of gi or {expected}; for others "
                      f"that you trust, add --allow {name.rpartition('.')[0]}")
