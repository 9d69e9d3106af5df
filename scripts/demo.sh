#!/usr/bin/env bash
# Sets the project up on first use, then trains and evaluates the demo. Arguments go to gi/main.py.
set -e
source "$(dirname "${BASH_SOURCE[0]}")/_env.sh" ""
cd "$ROOT"
exec "$PYTHON" gi/main.py --base configs/demo.yaml "$@"
