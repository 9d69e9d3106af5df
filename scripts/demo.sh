#!/usr/bin/env bash
# Sets the project up on first use, then shows what it does. Arguments: see --help.
set -e
source "$(dirname "${BASH_SOURCE[0]}")/_env.sh" ""
cd "$ROOT"
exec "$PYTHON" -m tools.demo "$@"
