"""`python -m tools.show_small`, from any folder and without installing anything."""
import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    main = Path(__file__).resolve().parents[1] / "gi" / "main.py"
    runpy.run_path(str(main))["run_module"]("tools.show_small", sys.argv[1:])
