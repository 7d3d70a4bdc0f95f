"""Run the script of every failure that the museum is known for where there is no Hypothesis and no pytest.

`python -m tests.conformance.every_packet FOLDER` writes a packet for each rule and mutant of
`conformance/kills.json` into the folder, makes a bare environment, and counts the scripts that show what is wrong.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from detr_conformance.options import CheckOptions
from detr_conformance.packets.files import keep
from detr_conformance.packets.new_process import told_in_new_process
from detr_conformance.power import MUTANT, RULE, recorded
from detr_conformance.properties.judging import judge
from detr_conformance.reference import ULTRALYTICS

from .bare import bare_python
from .museum_ports import attribute_of

HERE = Path(__file__).parent
AT_ONCE = 100
"""Scripts that one process runs."""


def packets(folder):
    """The script of each failure that has a case, with the rule and the deviation that it is about."""
    for name, kills in recorded().kills.items():
        port, options = MUTANT[name].port(), CheckOptions(port=f"museum_ports:{attribute_of(name)}")
        for rule, kill in kills.items():
            outcome = judge(RULE[rule], port, level=kill.level, shrink=False)
            if outcome.case is None:
                continue
            account = told_in_new_process(outcome, options)
            path = keep(outcome, port, ULTRALYTICS, options, str(folder / name), account)
            if path is not None:
                yield str(path.with_name(f"replay_{path.stem}.py")), f"{rule} on {name}"


def silent(python, scripts):
    """Which of the scripts do not show that anything is wrong, and what they print."""
    paths = list(scripts)
    together = [paths[start : start + AT_ONCE] for start in range(0, len(paths), AT_ONCE)]
    doubtful = [script for part in together for script, _ in _silent(python, part)]
    # A port that keeps something from one call to the next is not what it was after another script.
    return {scripts[script]: printed for each in doubtful for script, printed in _silent(python, [each])}


def _silent(python, paths):
    command = [str(python), str(HERE / "run_bare.py"), str(HERE), *paths]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for script, (code, printed) in json.loads(done.stdout).items():
        if not printed or not (code == 1 or isinstance(code, str)):
            yield script, printed


def main(folder):
    sys.path.insert(0, str(HERE))  # where the ports are imported from
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    python = bare_python(folder)
    scripts = dict(packets(folder / "packets"))
    wrong = silent(python, scripts)
    for about, printed in wrong.items():
        sys.stdout.write(f"{about}: nothing is wrong, says\n{printed}\n")
    sys.stdout.write(f"{len(scripts) - len(wrong)} of {len(scripts)} scripts show what is wrong\n")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
