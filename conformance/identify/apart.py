"""The process in which a port is identified: apart from the one that reports, as a port may do anything."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from queue import Empty, Queue
from tempfile import TemporaryDirectory
from threading import Thread

import msgspec

from detr_conformance.errors import UsageError, described, one_line
from detr_conformance.identify.found import Identification
from detr_conformance.options import CheckOptions

START = 120.0
"""Seconds that the process may take until the port is asked for something: it imports frameworks."""
SILENCE = 60.0
"""Seconds that a single answer may take."""
BUILDING = "while it was built"


def identified(options: CheckOptions) -> Identification:
    """Which convention the port follows.

    Raises:
        UsageError: nobody could find out; the message says what the port was asked for last.
    """
    with TemporaryDirectory() as folder:
        answer = Path(folder, "answer.json")
        command = [sys.executable, "-m", "detr_conformance.identify.apart", options.encoded(), str(answer)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:  # noqa: S603  # ourselves
            try:
                last = _followed(process)
            finally:
                process.kill()
        if not answer.exists():
            raise UsageError(f"the port ended its process (exit status {process.returncode}) {last}")
        return _read_answer(answer)


def _read_answer(path: Path) -> Identification:
    """What the process has found out, unless it says why it could not."""
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Identification | str)
    except msgspec.DecodeError as error:
        raise UsageError(f"what the process that asked the port wrote is no answer ({described(error)})") from error
    if isinstance(found, str):
        raise UsageError(found)
    return found


def _followed(process: subprocess.Popen[str]) -> str:
    """Wait for the end of the process; what the port was asked for last.

    Raises:
        UsageError: it has taken too long.
    """
    lines: Queue[str] = Queue()
    assert process.stdout is not None  # noqa: S101  # it is a pipe
    Thread(target=_read, args=(process.stdout, lines), daemon=True).start()
    last, patience = BUILDING, START
    while True:
        try:
            line = lines.get(timeout=patience)
        except Empty:
            raise UsageError(f"the port did not answer within {patience:.0f} s {last}: make that work first") from None
        if not line:
            process.wait()
            return last
        last, patience = f"when it was asked for {one_line(line)}", SILENCE


def _read(stream: Iterable[str], lines: Queue[str]) -> None:
    """Line after line, and an empty one at the end."""
    for line in stream:
        lines.put(line.strip() or "nothing")
    lines.put("")


def main(asked: str, answer: str) -> None:
    """Identify a port, telling standard output what it is asked for, and write down what came out."""
    tell = _own_output()
    from detr_conformance.check_plan import prepare
    from detr_conformance.identify.reporting import report_of
    from detr_conformance.identify.searching import Search
    from detr_conformance.isolation.memory import limit
    from detr_conformance.isolation.watched_port import WatchedPort
    from detr_conformance.properties.port_under_test import PortTimeout

    options = CheckOptions.decoded(asked)
    found: Identification | str
    try:
        port = prepare(options).port
        limit(options.memory)
        watched = WatchedPort(port, options.memory).as_port()
        found = report_of(Search(watched, tell).run())
    except UsageError as refused:
        found = str(refused)
    except PortTimeout as lost:  # memory, or an input that was changed: the port can be asked no more
        found = f"the port cannot be identified: {one_line(lost)}"
    except Exception as error:  # noqa: BLE001  # nobody sees the standard error of this process
        found = f"the search broke off ({described(error)}): report it, with the port"
    finished = Path(f"{answer}.part")
    finished.write_bytes(msgspec.json.encode(found))
    finished.rename(answer)
    os._exit(0)  # whatever threads the port has left running


def _own_output() -> Callable[[str], None]:
    """Standard output for ourselves; what the port writes goes nowhere."""
    ours = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)

    def tell(line: str) -> None:
        ours.write(f"{line}\n")
        ours.flush()

    return tell


if __name__ == "__main__":
    main(*sys.argv[1:])
