"""Tells what this user's servers wrote from what came with a folder: by a seal whose key lies elsewhere.

A working folder may be somebody else's, and what a job names is run.
"""
import contextlib
import hmac
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Seal:
    """The seal of this user: its key is in $XDG_CACHE_HOME or ~/.cache, and nobody else can read it.

    Where that cannot be written, the key lasts as long as the server.
    """

    def __init__(self):
        place = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "gi" / "app.key"
        self._key = secrets.token_bytes(32)
        with contextlib.suppress(OSError):
            place.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError), open(place, "xb", opener=_for_the_user) as file:
                file.write(self._key)
            self._key = place.read_bytes()

    def of(self, content: Mapping[str, Any]) -> str:
        """Of what JSON can hold."""
        return hmac.digest(self._key, json.dumps(content, sort_keys=True).encode(), "sha256").hex()

    def fits(self, seal: object, content: Mapping[str, Any]) -> bool:
        """Whether `seal` is that of `content`, and so written by a server of this user."""
        return isinstance(seal, str) and hmac.compare_digest(seal.encode(), self.of(content).encode())


def _for_the_user(path, flags):
    return os.open(path, flags, 0o600)
