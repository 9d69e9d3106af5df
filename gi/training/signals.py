"""Ends a run on request by a signal, whatever it is doing or waiting for."""
import os
import signal
import socket
import threading
import time
from typing import Any

from pytorch_lightning.strategies.launchers import subprocess_script

from gi.errors import InputError

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)]  # as Windows


class StopRequested(Exception):
    """Training was asked to stop by a signal; the state was saved before."""

    def __init__(self, signum: int):
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


class StopSignals:
    """Within this context, Ctrl-C (SIGINT), SIGTERM and SIGUSR1 (the warnings of schedulers) end the process with
    status 128 + n.

    At once, unless `hold` said that there is something to save. Then the code that saves checks `requested`, and the
    process ends after `grace` seconds at the latest, or at a second signal: by Ctrl-C, or a second or more later
    (schedulers may deliver one request twice).

    Python calls its handlers between two of its own instructions, which may be never while a library waits for other
    processes. But it writes the number of a signal to a socket right away, and a thread reads it.

    launcher: Lightning's, if it started the other processes of this machine. They end with this one, and this one ends,
    with their status, when one of them has failed: it would wait for it. grace: seconds.
    """

    _entered = None

    def __init__(self, launcher: Any = None, *, grace: float = 120.0):
        self.requested = 0  # the signal, once there was one
        self._launcher, self._held, self._handlers = launcher, False, {}
        self._left = threading.Event()
        self._deadline = threading.Timer(grace, self._end)
        self._deadline.daemon = True

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():  # no other may handle signals
            self._sender, receiver = socket.socketpair()
            self._sender.setblocking(False)
            self._wakeup = signal.set_wakeup_fd(self._sender.fileno(), warn_on_full_buffer=False)
            self._handlers = {signum: signal.getsignal(signum) for signum in SIGNALS}
            self._install()
            StopSignals._entered = self
            threading.Thread(target=self._listen, args=(receiver,), daemon=True).start()
        if hasattr(self._launcher, "procs"):
            # Lightning's own watch kills this process, whatever the other's status was.
            subprocess_script._launch_process_observer = lambda processes: None
            threading.Thread(target=self._watch_processes, daemon=True).start()
        return self

    def __exit__(self, kind, *_):
        if kind not in (None, StopRequested):
            if self._launcher is not None and not issubclass(kind, InputError):
                time.sleep(8)  # perhaps another process has failed, and this one only lost it: see `_watch_processes`
            self._end_processes()  # which may wait for this one, and it ends
        self._left.set()
        if not self.requested:  # a request stands until the process has ended
            self._leave()

    def hold(self, held: bool) -> None:
        """Whether there is something to save, so that a signal does not end the process at once."""
        self._held = held
        if held:
            self._install()  # Lightning has added a handler that waits for all other processes, wherever they are
        elif self.requested:
            self._end()

    def _install(self):
        for signum in self._handlers:
            signal.signal(signum, lambda *_: None)

    def _leave(self):
        if self._handlers:
            StopSignals._entered = None
            signal.set_wakeup_fd(self._wakeup)
            for signum, handler in self._handlers.items():
                signal.signal(signum, handler)
            self._sender.close()

    def _listen(self, receiver):
        with receiver:
            while received := receiver.recv(1):
                if received[0] not in SIGNALS:
                    continue
                if not self.requested:
                    self.requested, first = received[0], time.monotonic()
                    self._deadline.start()
                    if not self._held:
                        self._end()
                elif received[0] == signal.SIGINT or time.monotonic() - first > 1:
                    self._end()

    def _watch_processes(self):
        """Ends as one of the other processes has, if that failed."""
        while not self._left.wait(0.5):
            for process in self._launcher.procs:
                if failed := process.poll():
                    if failed < 0:  # else it has said why
                        os.write(2, f"a process of this run was ended by signal {-failed}\n".encode())
                    self._end_processes()
                    os._exit(failed if failed > 0 else 128 - failed)

    def _end(self):
        self._end_processes()
        os.write(2, f"{signal.Signals(self.requested).name}: ended; the last checkpoint stays\n".encode())
        os._exit(128 + self.requested)

    def _end_processes(self):
        if self._launcher is not None:
            self._launcher.kill(getattr(signal, "SIGKILL", signal.SIGTERM))


def _leave_in_child():
    """A data worker must not write to its parent's socket."""
    if StopSignals._entered is not None:
        StopSignals._entered._leave()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_in_child)
