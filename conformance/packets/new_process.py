"""A failure in a new process, in which the port was not called before: what its packet has to show.

A port that keeps something from one call to the next, in a default argument, a cache or a module, is right until it has
been called with something else. Its failure then depends on the calls before as much as on the one that shows it.

Run as a program, this module imports the port once, and answers each line that it reads in a process of its own.
"""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import weakref
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from tempfile import TemporaryFile
from typing import IO, Any

import msgspec

from detr_conformance.options import COMMAND, CheckOptions
from detr_conformance.packets.composing import Told, told
from detr_conformance.properties.case import LossCase
from detr_conformance.properties.case_json import CaseDocument, from_document, to_document
from detr_conformance.properties.judging import RuleResult
from detr_conformance.properties.rules import RULES
from detr_conformance.resolve import BUILT_IN, resolve

SECONDS = 30
"""A process that has not answered by then is ended, and no other is asked."""
COPIES = hasattr(os, "fork")
"""Whether a process can be copied. Where it cannot, each answers one question."""
Pipe = IO[bytes]


class Question(msgspec.Struct, frozen=True):
    """What is asked of a new process.

    Attributes:
        options: how the port is asked for.
        rule: id of the rule.
        cases: the one that the rule is asked about, after those to ask about first.
    """

    options: CheckOptions
    rule: str
    cases: list[CaseDocument]


def told_in_new_process(outcome: RuleResult, options: CheckOptions) -> Told | None:
    """What a packet says of a failure, found out in a new process.

    Its case is tried alone, or else after the last or the first case before the failure, after both, or after itself
    with other gains: what a port keeps is most often an option.

    Args:
        outcome: a failure with a case.
        options: how the port was asked for.

    Returns:
        The first account in which the port breaks the rule. If there is none, the last one: the port draws at random,
        or something else made it fail. None if there is no answer.
    """
    account: Told | None = None
    for earlier in _before(outcome):
        account = _ask(outcome, options, earlier)
        if account is None or account.broken:
            return account
    return account


def _before(outcome: RuleResult) -> Iterator[tuple[LossCase, ...]]:
    """Cases that may have to come before it."""
    case, first, last = _case(outcome), outcome.earlier[:1], outcome.earlier[-1:]
    doubled = case.change(loss_gain={term: 2.0 * gain for term, gain in case.config.loss_gain.items()})
    yield from dict.fromkeys(((), last, first, (*first, *last), (doubled,)))


def _case(outcome: RuleResult) -> LossCase:
    assert outcome.case is not None  # noqa: S101  # callers have looked
    return outcome.case


def _ask(outcome: RuleResult, options: CheckOptions, earlier: Sequence[LossCase]) -> Told | None:
    """One new process's account; None if there is none."""
    cases = [to_document(each) for each in (*earlier, _case(outcome))]
    server = _server(options, tuple(sys.path))
    try:
        return server.ask(Question(options, outcome.rule.id, cases))
    except BaseException:  # time is up: the answer to this question must not be taken for that to the next one
        _server.cache_clear()
        server.end()
        raise


@lru_cache(maxsize=1)
def _server(options: CheckOptions, path: tuple[str, ...]) -> Server:
    return Server(options, path)


class Server:
    """A process that never calls the port itself, and starts those that do.

    Args:
        options: how the port is asked for.
        path: where modules are found.

    Attributes:
        lost: a question was not answered, so no other is asked.
    """

    def __init__(self, options: CheckOptions, path: Sequence[str]) -> None:
        """Start it."""
        self.program = f"import sys; sys.path[:] = {list(path)!r}; from {__name__} import serve; serve()"
        self.options = options
        self.lost = False
        self.process = self._started()

    def ask(self, question: Question) -> Told | None:
        """What a new process answers; None if it ended without an answer."""
        if self.lost:
            return None
        if self.process.poll() is not None:
            self.process = self._started()
        account: Told | None = None
        try:
            account = msgspec.json.decode(self._answer(msgspec.json.encode(question)), type=Told | None)
        except (OSError, msgspec.DecodeError):  # it has ended, without an answer or in the middle of one
            self.lost = True
        if not COPIES:
            self.end()
        return account

    def end(self) -> None:
        """End it at once."""
        self.ending()

    def _started(self) -> subprocess.Popen[bytes]:
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen([sys.executable, "-c", self.program], **pipes)  # noqa: S603  # ourselves
        self.ending = weakref.finalize(self, _end, process)
        _open(process.stdin).write(msgspec.json.encode(self.options) + b"\n")
        return process

    def _answer(self, line: bytes) -> bytes:
        asked = _open(self.process.stdin)
        asked.write(line + b"\n")
        asked.flush()
        return _open(self.process.stdout).readline()


def _end(process: subprocess.Popen[bytes]) -> None:
    with process, suppress(OSError):  # there may be a question that it has not read
        process.kill()


def _open(pipe: Pipe | None) -> Pipe:
    assert pipe is not None  # noqa: S101  # it was asked for
    return pipe


def serve() -> None:
    """Read options, and then questions, line by line, and write a line for each.

    The line is null where a process ended without an answer. After one that took too long there is none.
    """
    questions, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb", buffering=0)
    for stream in (0, 1):  # the port must not read questions, nor write among answers
        os.dup2(os.open(os.devnull, os.O_RDWR), stream)
    _import_what_it_needs(msgspec.json.decode(questions.readline(), type=CheckOptions))
    for line in questions:
        question = msgspec.json.decode(line, type=Question)
        answer = _answer_of_a_copy(question) if COPIES else _answer(question)
        answers.write(answer)
        if not answer:
            return


def _import_what_it_needs(options: CheckOptions) -> None:
    """Import the port's module, which takes most of the time; what is wrong with it shows when it is asked."""
    if options.adapter == COMMAND:
        return
    module = options.port.partition(":")[0] if ":" in options.port else BUILT_IN[options.port].module
    with suppress(Exception, SystemExit):
        importlib.import_module(module)


def _answer_of_a_copy(question: Question) -> bytes:
    """What a copy of this process answers; nothing if it took too long."""
    with TemporaryFile(buffering=0) as file:
        copy = os.fork()
        if copy == 0:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)  # the system ends the process, whatever the port is doing
            signal.alarm(SECONDS)
            try:
                file.write(_answer(question))
            finally:
                os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1])
        file.seek(0)
        return b"" if status == -signal.SIGALRM else file.read() or b"null\n"


def _answer(question: Question) -> bytes:
    """What can be told of the rule on the last of the cases."""
    *earlier, case = map(from_document, question.cases)
    rule = next(rule for rule in RULES if rule.id == question.rule)
    port, profile = resolve(question.options)
    return msgspec.json.encode(told(rule, port, profile, case, earlier)) + b"\n"
