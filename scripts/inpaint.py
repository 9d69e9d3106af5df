"""Calls gi/commands/inpaint.py; see --help."""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the package need not be installed

from gi.commands.inpaint import main
from gi.commands.script import run

if __name__ == "__main__":
    run(main)
