"""The process in which a port that fails is diagnosed: apart from the one that reports, as a port may do anything."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from itertools import islice, zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from detr_conformance.errors import described
from detr_conformance.options import CheckOptions
from detr_conformance.properties.case import LossCase
from detr_conformance.properties.case_json import CaseDocument
from detr_conformance.report import Diagnosis, RuleEntry

SECONDS = {"smoke": 40, "standard": 60, "exhaustive": 180}
"""After so long, by level, no more is said about the port, rather than to keep its maintainer waiting. It is time of
the processor, from when the port is built: another program that is busy changes no diagnosis."""
ON_A_BUSY_MACHINE = 6
"""So many times as long may it take even so."""
OUT_OF_TIME = getattr(signal, "SIGPROF", 0)
"""What ends a process whose time of the processor is over, where there is such a signal."""
UNHEARD: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
RULES_ASKED, CASES_DRAWN = 8, 2
"""So many of the failed rules are looked at, and so many drawn cases of each beside the one that failed."""


class Failure(msgspec.Struct, frozen=True):
    """A failed rule, and a case on which it fails."""

    rule: str
    case: CaseDocument


class Question(msgspec.Struct, frozen=True):
    """What to diagnose."""

    options: CheckOptions
    failures: list[Failure]


def diagnosed(options: CheckOptions, entries: Iterable[RuleEntry]) -> Diagnosis | None:
    """What explains the failures, or why nobody could look for it; None if nothing does."""
    failures = [Failure(entry.id, entry.case) for entry in entries if entry.verdict == "fail" and entry.case]
    if not failures:
        return None
    with TemporaryDirectory() as folder:
        asked, answer = Path(folder, "question.json"), Path(folder, "answer.json")
        asked.write_bytes(msgspec.json.encode(Question(options, _spread(failures))))
        seconds = SECONDS[options.level]
        command = [sys.executable, "-m", "detr_conformance.diagnosis.apart", str(asked), str(answer)]
        try:
            subprocess.run(command, **UNHEARD, timeout=ON_A_BUSY_MACHINE * seconds, check=True)  # noqa: S603  # ourselves
            return msgspec.json.decode(answer.read_bytes(), type=Diagnosis | None)
        except subprocess.TimeoutExpired:
            return _out_of_time(seconds, answer)
        except subprocess.CalledProcessError as ended:  # its text is the whole command
            if ended.returncode == -OUT_OF_TIME:
                return _out_of_time(seconds, answer)
            return _none(f"the process that asked the port broke off (exit status {ended.returncode})")
        except (OSError, msgspec.DecodeError) as error:
            return _none(f"what the process that asked the port has written cannot be read ({described(error)})")


def _out_of_time(seconds: int, answer: Path) -> Diagnosis:
    what = "no known mistake by itself explains them, and pairs" if answer.exists() else "mistakes"
    return _none(f"{what} were looked for no longer than {seconds} s")


def _none(why: str) -> Diagnosis:
    """What is said where nobody found out."""
    return Diagnosis(message=f"none: {why}")


def _spread(failures: Sequence[Failure]) -> list[Failure]:
    """As many as are looked at, of as many families as possible."""
    by_family: dict[str, list[Failure]] = {}
    for failure in failures:
        by_family.setdefault(failure.rule.partition("-")[0], []).append(failure)
    ordered = [failure for round_ in zip_longest(*by_family.values()) for failure in round_ if failure is not None]
    return ordered[:RULES_ASKED]


def _answer(question: Question, tell_that_pairs_are_left: Callable[[], object]) -> Diagnosis | None:
    """The diagnosis; runs the port."""
    from detr_conformance.check_plan import prepare
    from detr_conformance.diagnosis.search import described, diagnose
    from detr_conformance.isolation.memory import limit
    from detr_conformance.properties.port_under_test import PortUnderTest

    judgement = prepare(question.options)
    limit(question.options.memory)
    if OUT_OF_TIME:
        signal.setitimer(signal.ITIMER_PROF, SECONDS[question.options.level])  # the system ends the process
    judged = PortUnderTest(judgement.port, judgement.profile)
    found = diagnose(judged, _cases(question), tell_that_pairs_are_left)
    return None if found is None else described(found)


def _cases(question: Question) -> list[LossCase]:
    """What the failed rules ask the port on the cases that they failed on, and some that they draw."""
    from detr_conformance.check_plan import prepare
    from detr_conformance.diagnosis.explaining import cases_asked_about
    from detr_conformance.properties.case_json import from_document
    from detr_conformance.properties.drawing import pool
    from detr_conformance.properties.port_under_test import PortUnderTest
    from detr_conformance.properties.rules import RULES
    from detr_conformance.properties.working import domain_for

    judgement = prepare(question.options)
    judged = PortUnderTest(judgement.port, judgement.profile)
    rules = {rule.id: rule for rule in RULES}
    cases: list[LossCase] = []
    for failure in question.failures:
        rule, case = rules[failure.rule], from_document(failure.case)
        cases += cases_asked_about(rule, judgement.port, judgement.profile, case)[-3:]
        if rule.listing is None:
            cases += islice(pool(rule.request, domain_for(rule.request, judged), judgement.seed), CASES_DRAWN)
    return list(dict.fromkeys(cases))


def main(asked: str, answer: str) -> None:
    """Read a question from one file, and write the answer to another."""
    question = msgspec.json.decode(Path(asked).read_bytes(), type=Question)
    path = Path(answer)
    path.write_bytes(msgspec.json.encode(_answer(question, path.touch)))
    os._exit(0)  # a thread that the port has started may never end


if __name__ == "__main__":
    main(*sys.argv[1:])
