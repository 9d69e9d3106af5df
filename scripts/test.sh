#!/usr/bin/env bash
# Sets the project up on first use, then runs the tests. Arguments go to pytest.
set -e
source "$(dirname "${BASH_SOURCE[0]}")/_env.sh" "test diffusion app"
cd "$ROOT"
exec "$PYTHON" -m pytest "$@"
