"""Tells jobs that this user's servers wrote from those that came with a folder, by a seal whose key is kept elsewhere.

A working folder may come from somebody else, and the command line of a job is run.
"""
import contextlib
import hmac
import json
import os
import secrets
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_LENGTH = 32  # bytes of a key


class Seal:
    """The seal of this user: its key is in $XDG_CACHE_HOME or ~/.cache, and nobody else can read it.

    Where that cannot be written, the key lasts as long as the server.
    """

    def __init__(self):
        self._key = secrets.token_bytes(_LENGTH)
        with contextlib.suppress(OSError, RuntimeError):  # RuntimeError: the user has no home
            place = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "gi" / "app.key"
            kept = place.read_bytes() if place.exists() else b""
            if len(kept) == _LENGTH:
                self._key = kept
            else:
                place.parent.mkdir(parents=True, exist_ok=True)
                handle, temporary = tempfile.mkstemp(dir=place.parent)  # which only the user can read
                with open(handle, "wb") as file:
                    file.write(self._key)
                os.replace(temporary, place)

    def of(self, content: Mapping[str, Any]) -> str:
        """The seal (HMAC) of content that JSON can hold."""
        return hmac.digest(self._key, json.dumps(content, sort_keys=True).encode(), "sha256").hex()

    def fits(self, seal: object, content: Mapping[str, Any]) -> bool:
        """Whether `seal` is that of `content`, and so written by a server of this user."""
        return isinstance(seal, str) and hmac.compare_digest(seal.encode(errors="replace"), self.of(content).encode())
