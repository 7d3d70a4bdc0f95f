"""`detr-conformance check`: judge a port by running pytest on one item for each rule, and write down what came out."""

from __future__ import annotations

import io
import re
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stderr
from pathlib import Path

import pytest

from detr_conformance.check_plugin import OPTION
from detr_conformance.console import Display
from detr_conformance.errors import UsageError, described, one_line
from detr_conformance.judgement import prepare
from detr_conformance.options import TIMEOUTS, CheckOptions
from detr_conformance.progress import Progress
from detr_conformance.report import compose, versions_for

INTERRUPTED = 130
"""Exit status of a program that was ended by ctrl-C: 128 + SIGINT."""


def check(options: CheckOptions, json_path: str | None, pytest_arguments: Sequence[str]) -> int:
    """Judge a port, print what comes out, and write the report.

    Args:
        options: what to judge.
        json_path: where to write the report; None for nowhere.
        pytest_arguments: passed on to pytest.

    Returns:
        0 if the port is conformant or partial, 1 if it is non-conformant, 130 if the run was interrupted.

    Raises:
        UsageError: the run cannot be made.
    """
    if json_path is not None:
        _refuse_unwritable(Path(json_path))
    prepare.cache_clear()
    judgement = prepare(options)
    versions = versions_for(options.port)
    display = Display()
    progress = Progress(judgement, display)
    started = time.monotonic()
    _run_pytest(options, pytest_arguments, progress)
    report = compose(judgement, progress.entries.values(), versions)
    if json_path is not None:
        _write(Path(json_path), report.to_json())
    display.closing(report, time.monotonic() - started, progress.interrupted)
    if progress.interrupted:
        return INTERRUPTED
    return 1 if report.verdict == "non-conformant" else 0


def _run_pytest(options: CheckOptions, pytest_arguments: Sequence[str], progress: Progress) -> None:
    """Let pytest judge every rule, under settings of its own."""
    settings = Path(__file__).with_suffix(".ini")
    arguments = [
        *("--pyargs", "detr_conformance.rule_items", "-p", "detr_conformance.check_plugin"),
        *(OPTION, options.encoded(), f"--timeout={TIMEOUTS[options.level]}"),
        *("-c", str(settings), f"--rootdir={settings.parent}"),
        *pytest_arguments,
    ]
    stderr = io.StringIO()
    try:
        with redirect_stderr(stderr):
            status = pytest.main(arguments, plugins=[progress])
    except Exception as error:  # a plugin raised before the session began, or -W error met a warning of pytest's own
        raise UsageError(f"pytest broke off ({described(error)}): change the arguments after --") from error
    if status == pytest.ExitCode.USAGE_ERROR:
        reasons = re.findall(r"error: (.*)", stderr.getvalue(), re.IGNORECASE) or [stderr.getvalue()]
        raise UsageError(
            f"pytest refuses the arguments after -- ({one_line(reasons[-1])}): correct them, or install the plugin"
        )
    sys.stderr.write(stderr.getvalue())
    if not progress.interrupted:
        _refuse_empty_run(progress, pytest_arguments, status)


def _refuse_empty_run(progress: Progress, pytest_arguments: Sequence[str], status: int) -> None:
    """Refuse to call a run without any verdict a success."""
    if progress.entries:
        return
    if status in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        chosen = " ".join(pytest_arguments)
        hint = f"change the arguments after -- ({one_line(chosen)})" if chosen else "choose another case"
        raise UsageError(f"no rule was judged: {hint}")
    raise UsageError(f"pytest broke off with status {int(status)}: {one_line(progress.chatter.getvalue()[-300:])}")


def _refuse_unwritable(path: Path) -> None:
    """Find out before the run whether the report can be written, and leave no file behind."""
    existed = path.exists()
    _write(path, None)
    if not existed:
        path.unlink()


def _write(path: Path, text: str | None) -> None:
    """Write the file; without a text only open it, to append nothing."""
    try:
        with path.open("a" if text is None else "w", encoding="utf-8") as file:
            file.write(text or "")
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{path} cannot be written ({reason}): give --json another path") from error
