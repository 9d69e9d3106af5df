"""Where threads take memory from, as glibc itself reports it."""
import os
import re
import subprocess
import sys

import pytest

COUNT_HEAPS = """
import ctypes, sys, threading
from gi.heap import release_freed, share_heap
if sys.argv[1] == "shared":
    share_heap()
kept, done = [], threading.Barrier(4)
def work():
    kept.append(bytearray(50_000))
    done.wait()
threads = [threading.Thread(target=work) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
release_freed()
libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
report = ctypes.c_void_p(libc.fopen(sys.argv[2].encode(), b"w"))
libc.malloc_info(0, report)
libc.fclose(report)
"""


@pytest.mark.skipif(not hasattr(os, "confstr") or "glibc" not in (os.confstr("CS_GNU_LIBC_VERSION") or ""),
                    reason="of glibc alone")
def test_threads_share_one_heap(tmp_path):
    counts = []
    for how in ("shared", "usual"):
        environment = {name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"}
        subprocess.run([sys.executable, "-c", COUNT_HEAPS, how, str(tmp_path / how)], check=True, env=environment)
        counts.append(len(re.findall("<heap nr=", (tmp_path / how).read_text())))
    assert counts[0] == 1 < counts[1]
