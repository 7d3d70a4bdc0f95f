"""What is copied into other people's CI: the action and the snippets of docs/ci.md."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from detr_conformance.cli import _split, parser

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parents[2]
ACTION = yaml.safe_load((ROOT / "action.yml").read_text())
SNIPPETS = re.findall(r"^```yaml\n(.*?)^```", (ROOT / "docs/ci.md").read_text(), re.DOTALL | re.MULTILINE)


def scripts(node):
    """Every command line in a snippet."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key in ("run", "script", "after_script"):
                yield from [value] if isinstance(value, str) else value
            else:
                yield from scripts(value)
    elif isinstance(node, list):
        for each in node:
            yield from scripts(each)


def test_every_snippet_is_valid_yaml_with_jobs():
    for text in SNIPPETS:
        document = yaml.safe_load(text)
        jobs = document.get("jobs", document)
        assert all(isinstance(job, dict) for job in jobs.values())
        if "jobs" in document:
            assert all(job["runs-on"] and job["steps"] for job in jobs.values())
            assert True in document, "`on`, which YAML 1.1 reads as true"


COMMANDS = sorted({line for text in SNIPPETS for line in scripts(yaml.safe_load(text)) if "detr-conformance " in line})


@pytest.mark.parametrize("command", [line for line in COMMANDS if line.startswith("detr-conformance")])
def test_every_command_of_a_snippet_is_one_that_the_program_takes(command):
    words = shlex.split(re.sub(r"\$\{\{.*?\}\}|\$\w+", "1", command.partition("||")[0]))
    own, _ = _split(words[1:])
    assert parser().parse_args(own).run


def test_the_action_passes_on_what_it_is_given_and_nothing_becomes_code():
    steps = ACTION["runs"]["steps"]
    assert not any("${{" in step["run"] for step in steps)
    used = set(re.findall(r"inputs\.([\w-]+)", json.dumps(ACTION)))
    assert used == set(ACTION["inputs"])


def test_a_snippet_gives_the_action_inputs_that_it_has():
    for text in SNIPPETS:
        for given in re.findall(r"uses: OWNER/detr-conformance@\S+\n +with:\n((?: {10}\S.*\n)+)", text):
            assert set(yaml.safe_load(given)) <= set(ACTION["inputs"])


@pytest.fixture
def act(tmp_path, beside_the_samples):  # noqa: ARG001  # for where it leaves the process
    """Runs the action's steps after the installation, with these inputs, as GitHub would; returns the exit status."""

    def run(**given):
        inputs = {name: str(about.get("default", "")) for name, about in ACTION["inputs"].items()}
        inputs |= {"python": sys.executable, "folder": str(tmp_path / "a folder")}
        inputs |= {name.replace("_", "-"): value for name, value in given.items()}
        _, check, write, end = ACTION["runs"]["steps"]
        outputs = {}
        for step in (check, write):
            assert step_status(step, inputs, outputs, tmp_path) == 0
            outputs = dict(line.split("=") for line in (tmp_path / "output").read_text().splitlines())
        return step_status(end, inputs, outputs, tmp_path)

    return run


def step_status(step, inputs, outputs, folder):
    values = {f"inputs.{name}": value for name, value in inputs.items()}
    values |= {f"steps.check.outputs.{name}": value for name, value in outputs.items()}
    environment = {name: values[str(value)[3:-2].strip()] for name, value in step.get("env", {}).items()}
    files = {"GITHUB_OUTPUT": str(folder / "output"), "GITHUB_STEP_SUMMARY": str(folder / "summary")}
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
    return subprocess.run(command, env={**os.environ, **environment, **files}, check=False).returncode


def test_the_action_ends_as_the_check_does_and_leaves_every_form(act, tmp_path):
    assert act(port="sample_ports:hopeless", level="smoke", pytest_arguments="-k 'DN-10 or API-01' -q") == 1
    forms = {"report.json", "report.html", "report.md", "junit.xml", "badge.json"}
    assert {path.name for path in (tmp_path / "a folder").iterdir()} == forms
    assert "## ❌ hopeless is non-conformant" in (tmp_path / "summary").read_text()
    assert json.loads((tmp_path / "a folder/report.json").read_text())["counts"]["pass"] == 1


@pytest.mark.thorough
def test_known_bugs_can_be_accepted_but_not_a_check_that_does_not_work(act):
    accepted = {"level": "smoke", "pytest_arguments": "-k API-01", "accept_non_conformant": "true"}
    assert act(port="sample_ports:hopeless", **accepted) == 0
    assert act(port="sample_ports:absent", **accepted) == 2
    assert act(port="$(exit 0); `exit 0`", **accepted) == 2
