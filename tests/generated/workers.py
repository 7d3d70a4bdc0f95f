"""Processes that judge mutants: one that hangs or crashes takes only its process with it."""

from __future__ import annotations

from multiprocessing import get_context

from .judging import judged

PATIENCE = 300
"""Seconds that a mutant may take; the slowest that comes to an end takes a twentieth of that."""


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
            if self.connection.poll(PATIENCE):
                return self.connection.recv()
        except EOFError:
            pass
        self.stop()
        self._start()
        return None

    def stop(self):
        self.process.kill()
        self.process.join()


def _serve(connection):
    while True:
        connection.send(judged(*connection.recv()))
