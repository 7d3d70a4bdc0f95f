from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent
PROGRAM = """
import sys
from detr_conformance.cli import main
from detr_conformance.diagnosis import apart
import detr_conformance.check as running
running.cores = lambda: 1  # the others are busy with other tests
apart.SECONDS = dict.fromkeys(apart.SECONDS, 0)
sys.exit(main())
"""


@pytest.fixture(scope="session")
def check(tmp_path_factory):
    """Runs `detr-conformance check` at level smoke in a folder with the sample ports, and lets nobody explain failures.

    To look for what explains one takes half a minute; test_check_files.py and test_diagnosis.py do.
    """
    folder = tmp_path_factory.mktemp("user")
    shutil.copy(HERE / "sample_ports.py", folder)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", PROGRAM, "check", arguments[0], "--level", "smoke", *arguments[1:]]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)

    return run


@pytest.fixture
def beside_the_samples(monkeypatch):
    """The folder of the sample ports is the current one."""
    monkeypatch.chdir(HERE)
    monkeypatch.syspath_prepend(HERE)


@pytest.fixture(scope="session")
def small_case():
    """Two equal layers, one image, two queries, one target, focal loss."""
    from detr_conformance.properties.case import LossCase, LossConfig

    return LossCase(
        config=LossConfig(nc=2),
        pred_bboxes=np.array(2 * [[[[0.5, 0.5, 0.25, 0.25], [0.25, 0.75, 0.125, 0.5]]]]),
        pred_scores=np.array(2 * [[[[1.5, -2.0], [0.25, -1.0]]]]),
        gt_cls=np.array([1]),
        gt_bboxes=np.array([[0.5, 0.5, 0.25, 0.5]]),
        gt_groups=(1,),
    )


@pytest.fixture(scope="session")
def make_report():
    """Builds a report: each rule passes, but for those that are named with a verdict, or with fields of their entry."""
    import msgspec

    from detr_conformance.check_plan import CheckPlan
    from detr_conformance.ports.reference_port import ReferencePort
    from detr_conformance.properties.judging import RuleResult
    from detr_conformance.reference import ULTRALYTICS
    from detr_conformance.report import RuleEntry
    from detr_conformance.reports.composing import compose, entry_of

    def entry(rule, said):
        fields = {"verdict": said, "message": "" if said == "pass" else "why"} if isinstance(said, str) else said
        return RuleEntry(**(msgspec.structs.asdict(entry_of(RuleResult(rule, "pass", examples=5, share=0.5))) | fields))

    def make(said=None, *, judged=".", name="sample", **changes):
        plan = CheckPlan(ReferencePort(name=name), ULTRALYTICS)
        entries = [
            entry(rule, (said or {}).get(rule.id, "pass")) for rule in plan.applicable if re.search(judged, rule.id)
        ]
        report = compose(plan, entries, {"python": "3.11"})
        return msgspec.structs.replace(report, **changes)

    return make


@pytest.fixture
def write_report(make_report, tmp_path):
    """Writes a report of `make_report` to a file, and returns its path."""

    def write(file_name, *arguments, **options) -> str:
        path = tmp_path / file_name
        path.write_text(make_report(*arguments, **options).to_json())
        return str(path)

    return write


@pytest.fixture
def refusal(capsys):
    """Runs a command that is refused, and returns the one sentence that says why."""
    from detr_conformance.cli import main

    def run(*arguments: str) -> str:
        __tracebackhide__ = True
        assert main(arguments) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("detr-conformance: ")
        assert err.count("\n") == 1, err
        return err

    return run


@pytest.fixture
def hostile_report(make_report):
    """A report in which everything that comes from a port, or from a file, tries to be more than text."""
    import msgspec

    from detr_conformance.report import Diagnosis, Divergence, KnownMistake, LeftOpen, ProfileFacts

    script = "<script>document.title = 'owned'</script>"
    hostile = (
        f"{script}<img src=x onerror=\"document.title='owned'\"> \"'><svg onload=alert(1)> </pre></details></table>"
    )
    hostile += "\x1b[31m\x07\x00\u202e../../outside | `b` ]]> {{ 7 * 7 }} [x](javascript:alert(1)) &lt;\n# head\n"
    long, tall = hostile + "A" * 1_000_000, hostile + "A\n" * 500_000
    picture = (
        f'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)">{script}<image href="http://example.org/x"/></svg>'
    )
    divergence = Divergence(step=long, what=hostile, where=[0], expected=tall, got=long, message=hostile)
    remark = {"verdict": "error", "obligation": "SHOULD", "obligation_reason": long, "message": hostile}
    said = {
        "BOX-01": {
            "verdict": "fail",
            "message": long,
            "picture": picture,
            "case": {"format": hostile, hostile: long[:9999]},
        },
        "BOX-02": {"verdict": "error", "message": tall, "divergence": divergence},
        "BOX-03": {"verdict": "xfail", "message": long, "title": hostile, "source": long, "statement": tall},
        "BOX-04": {"verdict": "stale", "message": "", "blocked_by": "BOX-01", "picture": '"><script>alert(1)</script>'},
        "BOX-05": remark | {"title": hostile, "statement": tall, "divergence": divergence},
        "REG-01": {"verdict": "fail", "message": hostile, "case": {"format": "x", "version": 1}},
    }
    links = ["javascript:alert(1)", "https://example.org/'\"><script>alert(1)</script>", "https://example.org/1", ""]
    deviations = [KnownMistake(id=hostile, story=long, link=link) for link in links]
    report = make_report(said, diagnosis=Diagnosis(message=tall, profile=hostile, deviations=deviations))
    port = msgspec.structs.replace(
        report.port,
        name=hostile + long,
        versions={"python": hostile, hostile: long},
        capabilities=[long],
        options={hostile: [0.5], "gamma": [{long: 1.0}]},
        keys=long,
    )
    left_open = {hostile: LeftOpen(reason=long, rules=[])}
    profile = ProfileFacts(name=hostile, differences={hostile: long}, left_open=left_open)
    return msgspec.structs.replace(report, port=port, profile=profile)
