"""Stand-in ports that do harm: the reference, but for one rule each, or for every rule."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from contextlib import suppress

import numpy as np
import pytest

from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.properties.port import LossResult

LIMIT = 10
"""Seconds after which a hanging rule is given up, for the tests of these ports."""
hoard, loaded = [], []


def harmless(_case):
    """What every other rule sees."""


def rule_being_judged() -> str:
    """Its id: pytest writes the item's name into the environment."""
    return os.environ.get("PYTEST_CURRENT_TEST", "").partition("[")[2].partition("]")[0]


def segfaults(_case):
    ctypes.string_at(0)


def exits(_case):
    os._exit(3)


def loops(_case):
    while True:
        with suppress(Exception):
            time.sleep(0)


def loops_for_good(_case):
    """Catches whatever would end it."""
    while True:
        with suppress(BaseException):
            time.sleep(0.01)


def deadlocks(_case):
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def deadlocks_in_c(_case):
    """Waits for a mutex that it has, and keeps the interpreter's lock: no signal handler of Python's ever runs."""
    library, mutex = ctypes.PyDLL(None), ctypes.create_string_buffer(256)
    library.pthread_mutex_lock(mutex)
    library.pthread_mutex_lock(mutex)


def allocates(_case):
    while True:
        hoard.append(np.ones(10_000_000))


def floods(_case):
    for _ in range(1000):
        sys.stdout.write("nothing to see here\n" * 50_000)


def mutates(case):
    case.pred_scores.setflags(write=True)
    case.pred_scores[...] = 0.0


def writes(case):
    case.pred_scores[...] = 0.0


def silences_warnings(_case):
    warnings.simplefilter("ignore")


def sets_a_variable(_case):
    os.environ["CUDA_VISIBLE_DEVICES"] = "7"


def moves(_case):
    os.chdir("/")


def raises_keyboard_interrupt(_case):
    raise KeyboardInterrupt


def quits(_case):
    sys.exit("enough")


def forks(_case):
    """Leaves a process behind that comes back from the call as well, and one that stays."""
    if os.fork() and not os.fork():
        time.sleep(3600)


def chats(_case):
    """Says something now and then, also from C."""
    sys.stdout.write("noise from Python")
    os.write(2, b"noise from C")


def loads(_case):
    """Imports something at its first call that sets a variable and a filter, as many a package does."""
    if not loaded:
        loaded.append(True)
        os.environ["HOSTILE_PORTS_LOADED"] = "1"
        warnings.simplefilter("ignore", ImportWarning)


def forks_and_exits(_case):
    """Leaves a process behind that keeps the connection open."""
    if os.fork() == 0:
        time.sleep(3600)
    os._exit(0)


def disarms_the_watch_and_loops(_case):
    """As training code does that has timers and handlers of its own."""
    faulthandler.cancel_dump_traceback_later()
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    while True:
        time.sleep(1)


class UnspeakableError(Exception):
    """An exception whose text ends programs."""

    def __str__(self):
        raise KeyboardInterrupt


def raises_the_unspeakable(_case):
    raise UnspeakableError


class WithoutATracebackError(Exception):
    """An exception that cannot be looked at."""

    @property
    def __traceback__(self):
        return 1 / 0


def raises_what_cannot_be_looked_at(_case):
    raise WithoutATracebackError("here")


class Mute:
    """Stands for stdout, and has no more than `write`."""

    def write(self, text):
        """Say nothing."""


def replaces_stdout(_case):
    sys.stdout = Mute()


def closes_stdout(_case):
    sys.stdout.close()
    with suppress(OSError):  # the second time
        os.close(1)


def keeps_faults_to_itself(_case):
    faulthandler.enable(open(os.devnull, "w"))  # noqa: PTH123, SIM115  # it stays open


def aborts(_case):
    os.abort()


def ends_itself(_case):
    os.kill(os.getpid(), signal.SIGTERM)


def recurses(case):
    return recurses(case)


def raises_generator_exit(_case):
    raise GeneratorExit


def skips(_case):
    pytest.skip("no GPU")


def clears_the_environment(_case):
    os.environ.clear()


def lets_numpy_raise(_case):
    np.seterr(all="raise")


def extends_the_search_path(_case):
    sys.path.append("/nowhere")


def answers_with_a_list(_case):
    return [1.0]


def answers_with_a_text(_case):
    return LossResult(losses={"loss_bbox": "much"})


def answers_with_a_flood(_case):
    return LossResult(losses={f"loss_{number}": np.zeros(()) for number in range(200_000)})


def answers_with_a_trap(_case):
    return LossResult(losses=Trap())


class Trap(dict):
    """A mapping that ends programs when it is read."""

    def items(self):
        raise SystemExit(0)


def leaves_a_thread(_case):
    threading.Thread(target=time.sleep, args=(3600,)).start()


def leaves_a_program(_case):
    subprocess.Popen(["sleep", "3600"])


def replaces_hooks(_case):
    sys.excepthook = threading.excepthook = sys.unraisablehook = sys.displayhook = print


def closes_stderr(_case):
    sys.stderr.close()
    with suppress(OSError):
        os.close(2)


def forgets_its_modules(_case):
    for name in [name for name in sys.modules if name.startswith("numpy.linalg")]:
        del sys.modules[name]


HAZARDS = {
    "BOX-01": (segfaults, "the port ended the process (segmentation fault) in segfaults, hostile_ports.py line "),
    "BOX-04": (exits, "the port ended the process (exit status 3)"),
    "REG-05": (loops, f"loss(case): no answer within {LIMIT} s: the port hangs"),
    "CLASS-06": (deadlocks, f"loss(case): no answer within {LIMIT} s: the port hangs"),
    "CLASS-07": (deadlocks_in_c, f"loss(case): no answer within {LIMIT} s, not even to a signal"),
    "REG-01": (allocates, "out of memory: more than 0.5 GB above the start"),
    "REG-02": (floods, "the port wrote more than 10 MB to stdout or stderr"),
    "AUX-01": (mutates, "loss(case) changed its input pred_scores"),
    "AUX-02": (writes, "loss(case) raised ValueError: assignment destination is read-only"),
    "INV-01": (silences_warnings, "the port changed Python's warnings filters, and left it so"),
    "INV-03": (sets_a_variable, "the port changed the environment variables (CUDA_VISIBLE_DEVICES), and left it so"),
    "INV-05": (moves, "the port changed the working folder, and left it so"),
    "NUM-10": (raises_keyboard_interrupt, "loss(case) raised KeyboardInterrupt"),
    "NUM-02": (loops_for_good, f"loss(case): no answer within {LIMIT} s, not even to a signal"),
    "API-01": (quits, "loss(case) raised SystemExit: enough"),
    "NUM-09": (disarms_the_watch_and_loops, f"no answer within {LIMIT} s, not even to a signal"),
    "BOX-05": (
        raises_the_unspeakable,
        "loss(case) raised UnspeakableError: UnspeakableError, at hostile_ports.py, line ",
    ),
    "INV-06": (raises_what_cannot_be_looked_at, "loss(case) raised WithoutATracebackError: here"),
    "API-02": (forks_and_exits, "the port ended the process (exit status 0)"),
    "BOX-02": (aborts, "the port ended the process (aborted) in aborts, hostile_ports.py line "),
    "INV-08": (ends_itself, "the port ended the process (terminated)"),
    "INV-02": (recurses, "loss(case) raised RecursionError: maximum recursion depth exceeded"),
    "INV-04": (raises_generator_exit, "loss(case) raised GeneratorExit"),
    "INV-07": (skips, "loss(case) raised Skipped: no GPU"),
    "INV-09": (clears_the_environment, "the port changed the environment variables ("),
    "REG-07": (
        lets_numpy_raise,
        "the port changed NumPy's error handling (divide, invalid, over, under), and left it so",
    ),
    "REG-08": (extends_the_search_path, "the port changed Python's search path, and left it so"),
    "API-03": (answers_with_a_list, "loss(case) returned list, expected a LossResult"),
    "API-05": (answers_with_a_text, "loss(case) returned loss 'loss_bbox' as str, expected real numbers"),
    "API-06": (answers_with_a_flood, "loss(case) returned 200,000 losses, expected at most 10,000"),
    "API-07": (answers_with_a_trap, "loss(case) returned what raises SystemExit when it is read: 0"),
}
"""By the rule in which it happens: what a call does before it answers, and how the verdict begins."""
HARMLESS = {
    "BOX-07": forks,
    "NUM-08": chats,
    "API-08": loads,
    "BOX-08": replaces_stdout,
    "BOX-09": closes_stdout,
    "REG-06": keeps_faults_to_itself,
    "BOX-06": leaves_a_thread,
    "BOX-10": leaves_a_program,
    "BOX-11": replaces_hooks,
    "REG-03": closes_stderr,
    "API-09": forgets_its_modules,
}
"""What leaves the verdict as it is: all of it is no answer to the rule, and is cleared away."""


class Hostile(ReferencePort):
    """Does harm when its loss is called, in some rules."""

    def __init__(self, name, harm):
        super().__init__(name=name)
        self.harm = harm

    def loss(self, case):
        answer = self.harm.get(rule_being_judged(), harmless)(case)
        return super().loss(case) if answer is None else answer


every_hazard = Hostile("every hazard", {rule: harm for rule, (harm, _) in HAZARDS.items()} | HARMLESS)
