"""The file that a worker process leaves when it ends early.

It holds either the report entry of the rule that the process had judged before it ended itself, or the traceback that
Python's `faulthandler` wrote in a crash or a hang: that works without the interpreter and its lock.
"""

from __future__ import annotations

import re
import signal
import sysconfig
from pathlib import Path

from detr_conformance.isolation.watched_port import CALLS

ENTRY = "entry: "
"""Stands before the entry of a process that ended itself."""
FRAME = re.compile(r"^  File \"(.*)\", line (\d+) in (.*)$", re.MULTILINE)
CALLING = "port_under_test.py"
"""The file whose functions call the port: each has the name of the method."""
SIGNALS = {signal.SIGKILL: "killed from outside, as a system out of memory does"} if hasattr(signal, "SIGKILL") else {}


class ExitLog:
    """The exit log of one worker process.

    Args:
        text: what is in it.
    """

    def __init__(self, text: str) -> None:
        """Keep the text."""
        self.text = text

    @staticmethod
    def read(path: Path) -> ExitLog:
        """Read the file; an empty log if there is none."""
        try:
            return ExitLog(path.read_text(encoding="utf-8", errors="replace"))
        except OSError:
            return ExitLog("")

    @property
    def entry(self) -> str:
        """The entry of the report, if the process had made one."""
        _, found, entry = self.text.partition(ENTRY)
        return entry if found else ""

    @property
    def hung(self) -> bool:
        """Whether the watchdog ended the process."""
        return self.text.startswith("Timeout (")

    @property
    def place(self) -> str:
        """Where the port was when the process crashed: the innermost call that is not in a library, if there is one."""
        _, _, thread = self.text.partition("Current thread")
        of_port = FRAME.findall(thread.partition("watched_port.py")[0])
        libraries = sysconfig.get_path("stdlib")
        for path, line, function in [each for each in of_port if not each[0].startswith(libraries)] or of_port:
            return f" in {function}, {Path(path).name} line {line}"
        return ""

    @property
    def call(self) -> str:
        """The method of the port that had not come back when the watchdog ended the process, before a colon."""
        for path, _, function in FRAME.findall(self.text):
            if Path(path).name == CALLING and function in CALLS:
                return f"{function}(case): "
        return ""

    def cause(self, status: int | None, seconds: float, overdue: bool = False) -> str:
        """Why the process ended, in a few words.

        Args:
            status: its exit status, as `subprocess` gives it; None if it is not known.
            seconds: the time limit of what it was doing.
            overdue: it was ended from outside, because its time was over.
        """
        if self.hung or overdue:
            reason = "not even to a signal: the port hangs, or needs a longer limit"
            return f"{self.call}no answer within {seconds:g} s, {reason}"
        if status is None:
            return f"the port ended the process{self.place}"
        if status >= 0:
            return f"the port ended the process (exit status {status})"
        return f"the port ended the process ({_signal(-status)}){self.place}"


def _signal(number: int) -> str:
    return SIGNALS.get(number) or (signal.strsignal(number) or f"signal {number}").lower()  # type: ignore[call-overload]
