"""Every command and every program in the documentation runs."""

from __future__ import annotations

import configparser
import importlib.util
import json
import re
import shlex
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from detr_conformance.check_plan import CheckPlan
from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.properties.case import (
    Denoising,
    Distributions,
    GeneratorConfig,
    LossCase,
    LossConfig,
    Masks,
    MatcherConfig,
)
from detr_conformance.properties.judging import RuleResult
from detr_conformance.properties.port import LATER, METHODS, MODES, PASSING, SITUATIONS
from detr_conformance.protocol import messages, replies
from detr_conformance.protocol.description import description_in
from detr_conformance.reference import ULTRALYTICS
from detr_conformance.reference.keys import LayerKeys
from detr_conformance.reports.composing import compose, entry_of

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "benchmarks" / "README.md"]
PAGES += sorted((ROOT / "docs").rglob("*.md"))
PROGRAM = """
import sys
from detr_conformance.cli import main
from detr_conformance.diagnosis import apart
import detr_conformance.check as running
running.cores = lambda: 1  # the others are busy with other tests
apart.SECONDS = dict.fromkeys(apart.SECONDS, 0)
sys.exit(main())
"""
QUICK = ["--level", "smoke", "--", "-n", "0", "-k", "REG-03 or API-02"]

# What the README's programs import: a project with a loss in Ultralytics' form, and one in a form of its own.
MY_PROJECT_LOSS = """
import torch

from detr_conformance.reference import RTDETRDetectionLoss as Reference


def scalars(losses):
    return {key: torch.tensor(float(loss)) for key, loss in losses.items()}


class RTDETRDetectionLoss:
    def __init__(self, **options):
        self.loss = Reference(**options)

    def __call__(self, preds, batch, dn_bboxes=None, dn_scores=None, dn_meta=None):
        batch = {key: value.numpy() if hasattr(value, "numpy") else value for key, value in batch.items()}
        return scalars(self.loss([each.detach().double().numpy() for each in preds], batch))


class MyCriterion:
    def __init__(self, nc, weights, gamma, alpha):
        self.loss = Reference(nc, loss_gain=weights, gamma=gamma, alpha=alpha, use_vfl=True)

    def __call__(self, boxes, logits, targets):
        batch = {
            "cls": torch.cat([each["labels"] for each in targets]).numpy(),
            "bboxes": torch.cat([each["boxes"] for each in targets]).double().numpy(),
            "gt_groups": [len(each["labels"]) for each in targets],
        }
        return scalars(self.loss((boxes.detach().double().numpy(), logits.detach().double().numpy()), batch))
"""
MY_PROJECT_OPS = "from detr_conformance.reference import get_cdn_group\n"


def blocks(language: str) -> list[tuple[str, str]]:
    """Fenced blocks of a language: the page's name and the text."""
    pattern = re.compile(rf"^```{language}\n(.*?)^```", re.DOTALL | re.MULTILINE)
    return [(page.name, text) for page in PAGES for text in pattern.findall(page.read_text(encoding="utf-8"))]


def commands(program: str) -> list[str]:
    """Every command line in the documentation that starts with the program."""
    lines = (line.strip() for _, text in blocks("sh") for line in text.splitlines())
    return sorted({line for line in lines if line.startswith(program)})


def tox_environments() -> set[str]:
    """The names that tox.ini gives its environments."""
    from itertools import product

    ini = configparser.ConfigParser(interpolation=None)
    ini.read(ROOT / "tox.ini")
    names = set()
    for section in ini.sections():
        parts = re.split(r"\{([^}]*)\}", section.removeprefix("testenv:"))
        choices = [part.split(",") if index % 2 else [part] for index, part in enumerate(parts)]
        names |= {"".join(choice) for choice in product(*choices)}
    return names


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with the files that the README's commands speak of."""
    package = tmp_path / "my_project"
    package.mkdir()
    (package / "loss.py").write_text(MY_PROJECT_LOSS)
    (package / "ops.py").write_text(MY_PROJECT_OPS)
    for _, text in blocks("python"):
        name = re.match(r"# (\w+\.py)\n", text)
        assert name is not None, f"a program in the documentation does not say its file name:\n{text}"
        (tmp_path / name[1]).write_text(text)
    (tmp_path / "instances_val.json").write_bytes((ROOT / "tests/targets/coco_sample.json").read_bytes())
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    for name, part in {"report": ".", "old": ".", "new": ".", "part-1": "[02468]$", "part-2": "[13579]$"}.items():
        (tmp_path / f"{name}.json").write_text(report_on(part))
    return tmp_path


def report_on(part: str) -> str:
    """The report of a run that passes the rules whose ids match, and does not judge the others."""
    plan = CheckPlan(ReferencePort(), ULTRALYTICS)
    entries = [entry_of(RuleResult(rule, "pass")) for rule in plan.applicable if re.search(part, rule.id)]
    return compose(plan, entries, {"python": "3.11"}).to_json()


@pytest.mark.parametrize("command", commands("detr-conformance"))
def test_a_documented_command_reaches_a_verdict(command: str, project: Path) -> None:
    pytest.importorskip("torch", reason="the README's port is in PyTorch")
    words = shlex.split(command)[1:]
    if words[:2] == ["check", "ultralytics"] and importlib.util.find_spec("ultralytics") is None:
        pytest.skip(
            "needs the ultralytics package: tests/ports/test_findings.py replays the case where it is installed"
        )
    quick = QUICK if words[0] == "check" and "--" not in words else []
    done = run([*words, *quick], project)
    assert done.returncode in (0, 1), done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not re.search(r"\b[1-9]\d* error, ", done.stdout)


@pytest.mark.thorough
def test_the_decorator_of_the_readme_runs_in_a_port_s_own_suite(project: Path) -> None:
    pytest.importorskip("torch", reason="the README's port is in PyTorch")
    arguments = ["-m", "pytest", "test_conformance.py", "-q", "-k", "REG-01", "-p", "no:cacheprovider"]
    done = subprocess.run([sys.executable, *arguments], cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


TUTORIAL = "CLASS-01 or GRAD-09 or NUM-05 or REG-03"


@pytest.mark.thorough
@pytest.mark.parametrize("chosen", [TUTORIAL, ""])
def test_the_loss_of_the_tutorial_has_the_faults_that_it_tells_of_and_the_fixed_one_has_none(
    chosen: str, project: Path
) -> None:
    pytest.importorskip("torch", reason="the tutorial's loss is in PyTorch")
    verdicts = {}
    for port in ("tiny_port:TinyPort", "tiny_fixed:FixedPort"):
        done = run(["check", port, "--level", "smoke", "--json", "tiny.json", "--", "-n", "0", "-k", chosen], project)
        rules = json.loads((project / "tiny.json").read_text())["rules"]
        verdicts[port] = {rule["id"]: rule["verdict"] for rule in rules if rule["verdict"] in ("fail", "error")}
        assert "Traceback" not in done.stdout + done.stderr
    faults = {"CLASS-01": "fail", "GRAD-09": "fail", "NUM-05": "error"}
    if not chosen:
        faults |= {"CLASS-20": "fail", "MATCH-26": "error", "NUM-14": "error", "NUM-15": "error"}
    assert verdicts == {"tiny_port:TinyPort": faults, "tiny_fixed:FixedPort": {}}


def test_the_adapter_of_a_criterion_of_dictionaries_has_twenty_lines_and_nothing_fails(project: Path) -> None:
    pytest.importorskip("torch", reason="the tutorial's criterion is in PyTorch")
    assert len((project / "set_port.py").read_text().splitlines()) <= 20
    chosen = "CLASS-01 or AUX-01 or AUX-08 or REG-02 or INV-03 or GRAD-03 or MATCH-02 or API-01"
    check = ["check", "set_port:SetPort", "--level", "smoke", "--json", "set.json", "--", "-n", "0", "-k", chosen]
    assert run(check, project).returncode == 0
    rules = json.loads((project / "set.json").read_text())["rules"]
    assert {rule["id"]: rule["verdict"] for rule in rules} == dict.fromkeys(chosen.split(" or "), "pass")


@pytest.mark.parametrize("command", commands("python3 -m venv"))
def test_a_documented_tox_environment_exists(command: str) -> None:
    environment = re.search(r"tox run -e (\S+)", command)
    assert environment is not None
    assert environment[1] in tox_environments()


def test_ci_runs_the_test_command_of_the_readme() -> None:
    command = next(line for line in commands("python3 -m venv") if line.endswith("-e py311"))
    assert command in (ROOT / ".ci/run").read_text(encoding="utf-8")


def test_every_link_in_the_documentation_leads_somewhere() -> None:
    for page in PAGES:
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.name} links to {link}"


def run(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """detr-conformance with these arguments, in this folder; what explains a failure is not looked for."""
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *words], cwd=folder, capture_output=True, text=True, check=False
    )


def test_the_page_for_other_languages_names_every_method_and_field_of_a_case() -> None:
    page = (ROOT / "docs/any-language.md").read_text(encoding="utf-8")
    records = (LossCase, LossConfig, MatcherConfig, GeneratorConfig, Denoising, Masks, Distributions)
    names = {each.name for record in records for each in fields(record)} | {*METHODS.values()}
    names |= {*MODES, *SITUATIONS, *PASSING, LATER}
    assert [name for name in sorted(names) if f"`{name}`" not in page] == []


def test_the_forms_of_keys_that_it_shows_are_those_of_keys_without_any() -> None:
    [text] = [text for page, text in blocks("text") if page == "any-language.md"]
    described = {"name": "x", "profile": "rtdetr", "capabilities": [], "dtypes": ["float32"]}
    assert description_in(described | json.loads(f"{{{text}}}")).keys == LayerKeys()


def test_the_messages_that_it_shows_are_of_the_protocol() -> None:
    [text] = [text for page, text in blocks("json") if page == "any-language.md"]
    request, reply, failure = map(messages.parsed, text.encode().splitlines())
    assert request["id"] == reply["id"]
    assert replies.answer_of("loss", reply["answer"]).losses == {"loss_bbox": 1.0}
    assert failure["error"]["type"] == "TypeError"
