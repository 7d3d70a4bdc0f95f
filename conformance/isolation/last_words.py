"""What a worker process leaves behind in a file when it ends early, and how it is read.

It is either the entry of the report that the process had reached before it ended itself, or what Python's
`faulthandler` wrote: it needs neither the interpreter nor its lock, and so has the last word in a crash or a hang.
"""

from __future__ import annotations

import re
import signal
import sysconfig
from pathlib import Path

LEFT = "left: "
"""Begins the file of a process that ended itself, after the entry was made."""
FRAME = re.compile(r"^  File \"(.*)\", line (\d+) in (.*)$", re.MULTILINE)
LOUD = {signal.SIGKILL: "killed from outside, as a system out of memory does"} if hasattr(signal, "SIGKILL") else {}


class LastWords:
    """The file of one worker process.

    Args:
        text: what is in it.
    """

    def __init__(self, text: str) -> None:
        """Keep the text."""
        self.text = text

    @staticmethod
    def of(path: Path) -> LastWords:
        """Read the file; nothing, if it was never written."""
        try:
            return LastWords(path.read_text(encoding="utf-8", errors="replace"))
        except OSError:
            return LastWords("")

    @property
    def entry(self) -> str:
        """The entry of the report, if the process had made one."""
        _, found, entry = self.text.partition(LEFT)
        return entry if found else ""

    @property
    def hung(self) -> bool:
        """Whether the watchdog has ended the process."""
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

    def cause(self, status: int | None, seconds: float) -> str:
        """Why the process ended, in a few words.

        Args:
            status: how it ended, as `subprocess` has it; None if that is not known.
            seconds: how long it had for what it was doing.
        """
        if self.hung:
            return f"no answer within {seconds:g} s, not even to a signal: the port hangs, or needs a longer limit"
        if status is None:
            return f"the port ended the process{self.place}"
        if status >= 0:
            return f"the port ended the process (exit status {status})"
        return f"the port ended the process ({_signal(-status)}){self.place}"


def _signal(number: int) -> str:
    return LOUD.get(number) or (signal.strsignal(number) or f"signal {number}").lower()  # type: ignore[call-overload]
