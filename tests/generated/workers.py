"""Processes that judge mutants: one that hangs or crashes takes only its process with it."""

from __future__ import annotations

import signal
from multiprocessing import get_context

from .judging import judged

PATIENCE = 180
"""Seconds of the processor that a mutant may take, as on a busy machine a clock says nothing. All rules took a new
process up to 60 of them, as it draws every case first."""


class Worker:
    """A process that is asked about one mutant after the other, and is replaced when it gives no answer."""

    def __init__(self):
        self._start()

    def _start(self):
        context = get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()

    def judged(self, name, level, order):
        """What becomes of the mutant; None if it hangs or crashes."""
        self.connection.send((name, level, order))
        try:
            return self.connection.recv()
        except EOFError:
            self.process.join()
            self._start()
            return None

    def stop(self):
        self.process.kill()
        self.process.join()


def _serve(connection):
    while True:
        work = connection.recv()
        signal.setitimer(signal.ITIMER_PROF, PATIENCE)  # then comes SIGPROF, which ends the process wherever it is
        connection.send(judged(*work))
        signal.setitimer(signal.ITIMER_PROF, 0)
