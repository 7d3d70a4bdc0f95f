"""The process that a user starts, and whose exit status counts: it runs the command in another one.

A port is imported in that other one. What the port does there, such as ending the interpreter in an exit handler of its
own, leaving a thread behind or closing files, cannot reach this process.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

POLL = 0.05
"""Seconds between two looks at the other process."""
LEAVING = 2.0
"""Seconds that the other process gets to end once it has said its exit status."""
INTERRUPTED = 130
"""Exit status of a program that was ended by ctrl-C: 128 + SIGINT."""

PACKAGES = str(Path(__file__).parent.parent)
PROGRAM = """\
import sys
sys.path[:] = [folder for folder in sys.path if folder] + [sys.argv[1]]
try:
    from detr_conformance.supervisor import answer
    answer(sys.argv[2], sys.argv[3:])
except KeyboardInterrupt:
    raise SystemExit(130) from None
"""
"""Without the current folder, whose files may have the names of the standard library's; a port's folder comes later."""


def main() -> int:
    """Run the command line of this process.

    Returns:
        The exit status of `detr_conformance.cli.main`, which it runs in another process.
    """
    with tempfile.TemporaryDirectory(prefix="detr-conformance-", ignore_cleanup_errors=True) as folder:
        said = Path(folder, "exit status")
        command = [sys.executable, "-c", PROGRAM, PACKAGES, str(said), *sys.argv[1:]]
        with _ctrl_c_left_to_the_other():
            stderr = subprocess.DEVNULL if sys.stderr is None else None  # closed, its number would be a file's
            process = subprocess.Popen(command, env=_environment(), stderr=stderr)  # noqa: S603  # ourselves
            with _ended_with_this_one(process):
                return _status(process, said)


def answer(path: str, argv: Sequence[str]) -> None:
    """Run a command in the other process, and write its exit status into a file."""
    _end_with(os.getppid())
    from detr_conformance.cli import main as run

    try:
        status = run(argv)
    except SystemExit as ended:  # --help and --version
        status = int(ended.code or 0)
    Path(path).write_text(f"{status}\n", encoding="ascii")


def _end_with(parent: int) -> None:
    """Interrupt this process, so that it reports what there is, once the one that started it was ended from outside."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(LEAVING)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=watch, daemon=True).start()


def _status(process: subprocess.Popen[bytes], path: Path) -> int:
    """The exit status that the other process says, or what its end without a word comes to."""
    while True:
        is_over = process.poll() is not None
        said = path.read_text(encoding="ascii") if path.exists() else ""
        if said.endswith("\n"):
            _see_out(process)
            return int(said)
        if is_over:
            return _without_a_word(process.returncode)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(POLL)


def _without_a_word(status: int) -> int:
    if status in (-signal.SIGINT, INTERRUPTED):
        return INTERRUPTED
    how = f"exit status {status}" if status >= 0 else f"signal {-status}"
    with contextlib.suppress(OSError, AttributeError):  # stderr is closed, or nobody reads it
        sys.stderr.write(f"detr-conformance: the process that imports the port ended ({how}) before it had a verdict\n")
    return 2


def _see_out(process: subprocess.Popen[bytes]) -> None:
    """Wait for the end of the other process, but not for long: a thread that the port started may never end."""
    try:
        process.wait(LEAVING)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _environment() -> dict[str, str]:
    """The variables, but for those that would choose or change what is judged, or take the checks out of the rules."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    kept.pop("PYTHONOPTIMIZE", None)
    return kept | {"PYTHONSAFEPATH": "1"}


@contextlib.contextmanager
def _ctrl_c_left_to_the_other() -> Iterator[None]:
    """The terminal interrupts both processes: the other one writes its report, and this one waits for that."""

    def wait(_signal: int, _frame: FrameType | None) -> None:
        """Not SIG_IGN, which the other process would inherit."""

    before = signal.signal(signal.SIGINT, wait)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _ended_with_this_one(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Whoever ends this process, as a CI system does, means the other one, which reports what there is."""

    def end(_signal: int, _frame: FrameType | None) -> None:
        process.send_signal(signal.SIGINT)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        if process.poll() is None:
            process.kill()
