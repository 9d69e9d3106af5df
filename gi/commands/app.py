"""Opens a page in the browser: mark an object in a video once, remove it, paint a keyframe, download the video.

  gi app                      # works in the folder gi-page of your home; open http://127.0.0.1:7860
  gi app FOLDER --runs logs   # videos and results lie in FOLDER; the page shows the training runs of logs, too

All work is done on this machine, and nobody else can reach the page unless --host says so. docs/app.md tells more.
"""
import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from gi.commands import script
from gi.errors import InputError

_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Raises InputError."""
    parser = script.Parser(prog="gi app", description=__doc__, allow_abbrev=False, formatter_class=script.Wide)
    parser.add_argument("folder", metavar="FOLDER", nargs="?", type=Path, default=Path("~/gi-page"),
                        help="working folder for all that the page reads and writes (default: ~/gi-page)")
    parser.add_argument("--host", default="127.0.0.1", help="address to answer at (default: this machine alone; "
                        "0.0.0.0: the network, with a password)")
    parser.add_argument("--port", type=int, default=7860, help="(default %(default)s)")
    parser.add_argument("--password-file", type=Path, metavar="FILE", help="its first line is the password")
    parser.add_argument("--password", metavar="TEXT", help="the same, but others on this machine can see it")
    parser.add_argument("--allow-host", action="append", default=[], metavar="NAME",
                        help="a name by which browsers reach this machine; repeatable")
    parser.add_argument("--max-upload", default="4G", metavar="SIZE", help="of a file (default %(default)s)")
    parser.add_argument("--runs", type=Path, metavar="DIR", help="training runs to show (default: logs, if there)")
    parser.add_argument("--diffusion", metavar="CHECKPOINT", help="weights for the method diffusion")
    parser.add_argument("--sam2", metavar="FOLDER", help="weights of SAM 2, for masks by clicks")
    parser.add_argument("--no-browser", action="store_true", help="do not open the page in the browser")
    args = parser.parse_args(argv)
    args.folder = args.folder.expanduser()
    args.max_upload = _size(args.max_upload)
    if args.password is not None and args.password_file is not None:
        raise InputError("--password and --password-file: expected one of them")
    if args.password_file is not None:
        args.password = _first_line(args.password_file)
    if args.password == "":
        raise InputError("--password: is empty")
    if not 0 <= args.port < 2**16:
        raise InputError(f"--port {args.port}: expected a number from 0 to 65535")
    if args.runs is not None and not args.runs.is_dir():
        raise InputError(f"--runs {args.runs}: no such folder")
    return args


def _size(text: str) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?", text.strip().lower())
    if not match or not (size := int(float(match[1]) * _UNITS[match[2]])):
        raise InputError(f"--max-upload {text}: expected a size such as 500M or 4G")
    return size


def _first_line(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").partition("\n")[0].strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--password-file {path}: cannot be read: {getattr(error, 'strerror', error)}") from error


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status when the page is closed by Ctrl-C. Raises InputError."""
    args = parse_args(argv)
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ModuleNotFoundError as error:
        raise InputError(f'the page needs {error.name}: pip install ".[app]" in a clone of gi') from error
    from gi.app.server import serve
    serve(args)
    return 0
