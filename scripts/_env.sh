# Sourced by the other scripts: sets ROOT and PYTHON, a Python in which everything setup.py asks for is installed.
# Usage: source _env.sh "extra extra …"   (extras of setup.py an already active environment must satisfy)
# Works with bash 3.2 (macOS).

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
VENV="$ROOT/.venv"
EXTRAS="$(echo "${1:-test}" | tr " " ,)"

_die() { echo "$*" >&2; exit 1; }

# Does Python $1 belong to a virtual (or conda) environment that satisfies setup.py and its extras $2?
# Looks at the installed packages' metadata only: importing torch would take seconds.
_satisfies() {
    "$1" - "$ROOT" $2 2>/dev/null <<'PYTHON'
import ast, importlib.metadata, os, sys
root, extras = sys.argv[1], sys.argv[2:]
if sys.prefix == sys.base_prefix and sys.prefix != os.environ.get("CONDA_PREFIX"):
    sys.exit(1)
try:
    from packaging.requirements import Requirement
except ImportError:
    from pip._vendor.packaging.requirements import Requirement
setup = ast.parse(open(os.path.join(root, "setup.py"), encoding="utf-8").read())
values = {node.targets[0].id: ast.literal_eval(node.value) for node in setup.body if isinstance(node, ast.Assign)}
for line in values["REQUIRES"] + [line for extra in extras for line in values["EXTRAS"][extra]]:
    requirement = Requirement(line)  # a missing package raises, which also means no
    if not requirement.specifier.contains(importlib.metadata.version(requirement.name), prereleases=True):
        sys.exit(1)
PYTHON
}

_new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1
}

_find_python() {
    local candidate
    for candidate in python3 python python3.14 python3.13 python3.12 python3.11 python3.10; do
        if _new_enough "$candidate"; then echo "$candidate"; return; fi
    done
    return 1
}

# What .venv was made from. The folder is part of it: environments do not survive being moved.
_stamp() {
    { echo "$ROOT"; cat "$ROOT/setup.py" "$ROOT/constraints.txt"; } | cksum
}

_install() {
    local base log status
    if ! _new_enough "$VENV/bin/python"; then
        base="$(_find_python)" || _die "Python 3.10 or newer is needed, none found on PATH (python3 is: $(python3 --version 2>&1))."
        echo "Creating $VENV with $("$base" --version) …"
        "$base" -m venv --clear "$VENV" || _die "'$base -m venv' failed: install the venv module of your Python (Debian and Ubuntu: apt install python3-venv)."
    fi
    echo "Installing into $VENV (once, takes some minutes) …"
    log="$VENV/install.log"
    (
        cd "$ROOT" && set -o pipefail  # relative paths: pip cannot parse extras after a path with spaces
        "$VENV/bin/python" -m pip install -c constraints.txt -e ".[$EXTRAS]" 2>&1 | tee "$log" && exit
        status=$?
        # No such version for this Python, rather than no network ("from versions: none").
        grep -q -e "ResolutionImpossible" -e "from versions: [^n)]" "$log" || exit $status
        echo "The versions of constraints.txt cannot be had for this Python; installing the newest that setup.py allows."
        "$VENV/bin/python" -m pip install -e ".[$EXTRAS]"
    ) || _die "Installation failed, see the lines above. Running the script again takes it up where it stopped."
    _stamp > "$VENV/stamp.tmp" && mv "$VENV/stamp.tmp" "$VENV/stamp"
}

PYTHON="$(command -v python || command -v python3 || true)"
if [ -z "$PYTHON" ] || ! _new_enough "$PYTHON" || ! _satisfies "$PYTHON" "${1:-}"; then
    if [ "$(cat "$VENV/stamp" 2>/dev/null)" != "$(_stamp)" ] || ! _satisfies "$VENV/bin/python" "${1:-}"; then
        rm -f "$VENV/stamp"
        _install
    fi
    PYTHON="$VENV/bin/python"
fi
