"""How a run ends on request, whatever it is doing or waiting for."""
import os
import signal
import socket
import threading
import time

SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name)]  # Windows has one


class StopRequested(Exception):
    """Training was asked to stop by a signal; the state was saved before."""

    def __init__(self, signum: int):
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


class StopSignals:
    """Within this context, SIGTERM and SIGUSR1 (the warnings of schedulers) end the process with status 128 + n.

    At once, unless `hold` said that there is something to save. Then whoever saves looks at `requested`, and the
    process ends after `grace` seconds at the latest, or when it is asked again a second or more later (one request may
    be delivered twice).

    Python calls its handlers between two of its own instructions, which may be never while a library waits for other
    processes. But it writes the number of a signal to a socket right away, and a thread reads it.

    launcher: Lightning's, if it started the other processes of this machine, which end with this one. grace: seconds.
    """

    _entered = None

    def __init__(self, launcher=None, *, grace: float = 120.0):
        self.requested = 0  # the signal, once there was one
        self._launcher, self._held, self._handlers = launcher, False, {}
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
        return self

    def __exit__(self, kind, *_):
        if kind not in (None, StopRequested):
            self._end_others()  # which may wait for this one, and it ends
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
                elif time.monotonic() - first > 1:
                    self._end()

    def _end(self):
        self._end_others()
        os.write(2, f"{signal.Signals(self.requested).name}: ended; the last checkpoint stays\n".encode())
        os._exit(128 + self.requested)

    def _end_others(self):
        if self._launcher is not None:
            self._launcher.kill(getattr(signal, "SIGKILL", signal.SIGTERM))


def _leave_in_child():
    """A data worker does not speak through its parent's socket, and goes on until its parent has saved the state."""
    if StopSignals._entered is not None:
        StopSignals._entered._leave()
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # a scheduler sends it to all processes of a job


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_in_child)
