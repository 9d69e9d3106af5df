"""The command `gi NAME …`, also `python -m gi NAME …`: it calls `main` of gi/commands/NAME.py, with underscores for
dashes.

Nothing slow is imported here, nor by the files of gi/commands before they have read their arguments.
"""
import difflib
import importlib
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

COMMANDS = {
    "train": "train a network, then score it on the test sets",
    "test": "score a trained network on the test sets",
    "inpaint": "fill holes in pictures, with or without keyframes",
    "inpaint-video": "fill holes in a video",
    "edit-keyframe": "cut a frame's hole out for an image tool, paste its result back",
    "propagate-masks": "segment an object, marked in one frame, in a whole video",
    "evaluate": "score pictures, of any origin, against ground truth",
    "evaluate-video": "score videos, of any origin, against ground truth",
    "compare": "print the results of runs side by side",
    "make-validation": "make a validation set from photographs",
    "fetch": "download the weights that a configuration needs",
    "app": "open the app in the browser: mark an object, remove it",
    "export": "write a network's weights to a small file for sharing",
    "benchmark": "measure run times on this machine (needs a clone)",
}


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Runs a command and exits with its status; `argv` are the words after `gi`."""
    name, *rest = (sys.argv[1:] if argv is None else list(argv)) or ["--help"]
    if name in ("-h", "--help", "--version"):
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="replace")  # what the terminal cannot encode is no reason to fail
        sys.exit(print(_version() if name == "--version" else _help()))
    if name not in COMMANDS:
        match = difflib.get_close_matches(name, COMMANDS, 1)
        print(f"error: {name}: no such command; " + (f"did you mean {match[0]}?" if match else "gi --help lists them"),
              file=sys.stderr)
        sys.exit(2)
    run_module(f"gi.commands.{name.replace('-', '_')}", rest)


def run_module(name: str, argv: Sequence[str]) -> NoReturn:
    """Runs `main` of a module and exits with its status. Missing packages, and Ctrl-C during imports, end in one line
    instead of a traceback. SIGTERM, the warning of schedulers and containers, is handled like Ctrl-C, so that work that
    can be resumed saves its state; `gi train` has rules of its own (`gi.training.signals`).
    """
    try:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        from gi.commands import script
        module = importlib.import_module(name)
        script.run(lambda: module.main(argv))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in ("", "gi", "tools"):
            raise
        sys.exit(f"error: this Python, {sys.executable}, has no module {missing}: {_remedy()}")


def _help():
    width = max(map(len, COMMANDS))
    return "\n".join(["usage: gi COMMAND …  (gi COMMAND --help explains it)", "",
                      *(f"  {name:<{width}}  {line}" for name, line in COMMANDS.items())])


def _version():
    import gi
    return f"gi {gi.__version__}"


def _remedy():
    clone = Path(__file__).resolve().parents[1]
    if (clone / ".venv").is_dir():
        return f"activate the environment of the project first, source {clone / '.venv' / 'bin' / 'activate'}"
    return "install the project into it (pip install .), or let ./scripts/test.sh set up .venv and activate that"


if __name__ == "__main__":
    main()
