"""`detr-conformance check`: judge a port by running pytest on one item for each rule, and write down what came out.

The items run in worker processes of pytest-xdist, one for each half of the rules unless `-n` says otherwise: a port
that ends its process ends one of those. See `detr_conformance.isolation`.
"""

from __future__ import annotations

import io
import re
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from types import FrameType

import pytest

from detr_conformance.check_plan import prepare
from detr_conformance.check_plugin import OPTION
from detr_conformance.cli import discard_stdout
from detr_conformance.console import Display
from detr_conformance.diagnosis.apart import SECONDS, diagnosed
from detr_conformance.diagnosis.explaining import with_consequences
from detr_conformance.errors import UsageError, described, one_line
from detr_conformance.halves import HALVES, cores
from detr_conformance.isolation.workers import MOST_RESTARTS, Workers
from detr_conformance.known_deviations import draft
from detr_conformance.options import TIMEOUTS, CheckOptions
from detr_conformance.packets.files import refuse_unwritable_folder, written
from detr_conformance.progress import Progress
from detr_conformance.report import Diagnosis, Report
from detr_conformance.reports.composing import compose
from detr_conformance.reports.facts import exit_status
from detr_conformance.supervisor import INTERRUPTED
from detr_conformance.versions import versions_for
from detr_conformance.writing import refuse_unwritable, write


def check(
    options: CheckOptions,
    json_path: str | None,
    draft_path: str | None,
    pytest_arguments: Sequence[str],
    display: Display,
) -> int:
    """Judge a port, print what comes out, and write the report.

    Args:
        options: what to judge.
        json_path: where to write the report; None for nowhere.
        draft_path: where to write a draft of a list of known deviations; None for nowhere.
        pytest_arguments: passed on to pytest.
        display: where it is shown.

    Returns:
        0 if the port is conformant or partial, 1 if it is non-conformant, 130 if the run was interrupted.

    Raises:
        UsageError: the run cannot be made.
    """
    refuse_unwritable(json_path, "--json")
    refuse_unwritable(draft_path, "--write-known-deviations")
    refuse_unwritable_folder(options.packets)
    prepare.cache_clear()
    plan = prepare(options)
    progress = Progress(plan, display, Workers())
    started = time.monotonic()
    with _ctrl_c_counting_once():
        broken = _run_pytest(options, pytest_arguments, progress)
        report = _reported(options, progress, started)
        write(json_path, report.to_json(), "--json")
        if draft_path is not None:
            packets = written([entry.id for entry in report.rules], plan.port.name, options.packets, draft_path)
            write(draft_path, draft(report, packets), "--write-known-deviations")
    for problem in (broken, _unshown(progress)):
        if problem is not None:
            raise problem
    return INTERRUPTED if progress.interrupted else exit_status(report)


@contextmanager
def _ctrl_c_counting_once() -> Iterator[None]:
    """Pressed again, it must not cost the report."""

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _reported(options: CheckOptions, progress: Progress, started: float) -> Report:
    """Explain what came out, and show it."""
    entries = with_consequences(progress.in_order)
    diagnosis = _diagnosed(options, progress)
    report = compose(progress.plan, entries, versions_for(options.port), diagnosis, options.naming_the_port())
    progress.show(progress.display.closing, report, time.monotonic() - started, progress.interrupted)
    return report


def _run_pytest(options: CheckOptions, pytest_arguments: Sequence[str], progress: Progress) -> UsageError | None:
    """Let pytest judge every rule, under settings of its own; returns why it broke off with some rules judged."""
    settings = Path(__file__).with_suffix(".ini")
    arguments = [
        *("--pyargs", "detr_conformance.rule_items", "-p", "detr_conformance.check_plugin"),
        *(OPTION, options.encoded(), f"--timeout={TIMEOUTS[options.level]}"),
        *("-n", str(_workers(options)), f"--max-worker-restart={MOST_RESTARTS}", "--maxschedchunk=1", "--assert=plain"),
        *("-c", str(settings), f"--rootdir={settings.parent}"),
        *pytest_arguments,
    ]
    stderr = io.StringIO()
    try:
        with redirect_stderr(stderr):
            status = pytest.main(arguments, plugins=[progress, progress.workers])
    except Exception as error:  # of a plugin, outside of the session; -W error and a warning of pytest's own
        broken = UsageError(f"pytest broke off ({described(error)}): change the arguments after --")
        if not progress.entries:
            raise broken from error
        return broken
    if status == pytest.ExitCode.USAGE_ERROR:
        reasons = re.findall(r"error: (.*)", stderr.getvalue(), re.IGNORECASE) or [stderr.getvalue()]
        raise UsageError(
            f"pytest refuses the arguments after -- ({one_line(reasons[-1])}): correct them, or install the plugin"
        )
    sys.stderr.write(stderr.getvalue())
    progress.close_gaps()
    if not progress.interrupted:
        progress.workers.refuse_a_port_that_cannot_be_built()
        _refuse_empty_run(progress, pytest_arguments, status)
    return None


def _workers(options: CheckOptions) -> int:
    """How many processes judge: one for each half of the rules, as far as there are cores; one on a single case."""
    return 1 if options.case is not None else min(HALVES, cores())


def _diagnosed(options: CheckOptions, progress: Progress) -> Diagnosis | None:
    """What explains the failures; nobody waits for it after ctrl-C."""
    if progress.interrupted:
        return None
    if any(entry.verdict == "fail" for entry in progress.in_order):
        progress.show(progress.display.explaining, SECONDS[options.level])
    return diagnosed(options, progress.in_order)


def _unshown(progress: Progress) -> UsageError | None:
    """Why not all was shown, if so; the rest is discarded, or Python would try again at its end."""
    if progress.unshown is None:
        return None
    discard_stdout()
    reason = getattr(progress.unshown, "strerror", None) or "nobody reads it"
    return UsageError(f"stdout cannot be written ({reason}): the rest was not shown")


def _refuse_empty_run(progress: Progress, pytest_arguments: Sequence[str], status: int) -> None:
    """Refuse to call a run without any verdict a success."""
    if progress.entries:
        return
    if status in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        chosen = " ".join(pytest_arguments)
        hint = f"change the arguments after -- ({one_line(chosen)})" if chosen else "choose another case"
        raise UsageError(f"no rule was judged: {hint}")
    raise UsageError(f"pytest broke off with status {int(status)}: {one_line(progress.chatter.getvalue()[-300:])}")
