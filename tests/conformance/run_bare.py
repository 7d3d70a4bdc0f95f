"""Runs scripts where Hypothesis, pytest and the other packages that they must do without are not to be imported.

Prints the exit status of each as JSON; a script that raised has the exception's name. Several run in one process,
since most of the time goes into importing NumPy.
"""

from __future__ import annotations

import contextlib
import io
import json
import runpy
import sys

ABSENT = ("hypothesis", "pytest", "_pytest", "msgspec", "rich", "scipy", "torch")


class Absent:
    """Finds none of these."""

    def find_spec(self, name, _path=None, _target=None):
        if name.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def status(script: str) -> tuple[object, str]:
    """How a script ends, and what it prints."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            runpy.run_path(script)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, str) else int(ended.code or 0), printed.getvalue()
    except Exception as error:  # noqa: BLE001  # what Python would show as a traceback
        return type(error).__name__, printed.getvalue()
    return 0, printed.getvalue()


if __name__ == "__main__":
    sys.meta_path.insert(0, Absent())
    sys.path.insert(0, sys.argv[1])
    print(json.dumps({script: status(script) for script in sys.argv[2:]}))  # noqa: T201  # what it is for
