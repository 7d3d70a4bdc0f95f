"""The schema of the protocol: what a run really sends and a served port really replies follows it, and nothing else."""

from __future__ import annotations

import json
import shlex
import sys
from copy import deepcopy
from functools import partial, reduce
from importlib import resources

import pytest

from detr_conformance.options import COMMAND, CheckOptions
from detr_conformance.probe import probe
from detr_conformance.properties.judging import judge
from detr_conformance.properties.port import METHODS
from detr_conformance.properties.rules import RULES
from detr_conformance.protocol.command_port import CommandPort
from detr_conformance.protocol.schema import schema

jsonschema = pytest.importorskip("jsonschema")
pytestmark = [pytest.mark.usefixtures("shapes_unchecked"), pytest.mark.timeout(600)]
DOCUMENT = json.loads(schema())
EVERY_METHOD = {
    "ultralytics": "DN-07 DN-17 GRAD-12 RANK-04 RANK-09 NUM-07 API-09 API-12 API-14 API-15 API-17 API-22",
    "maskdino": "MASK-25",
}
"""Rules by profile, which together call every method."""
RECORDER = r"""
import re, sys
from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.protocol import serving
from detr_conformance.reference import FAMILY

answered = serving.reply_to

def reply_to(port, text):
    reply = answered(port, text)
    with open(sys.argv[1], "ab") as log:
        log.writelines(re.sub(rb'("data":"[^"]{40})[^"]*', rb"\1", line) for line in (text, reply or b"\n"))
    return reply

serving.reply_to = reply_to
serving.serve(lambda: ReferencePort(FAMILY[sys.argv[2]]))
"""
"""A served port that writes down what is said, of each array the first bytes."""


def refused(name, message):
    """What the schema has against a message."""
    validator = jsonschema.Draft202012Validator({"$ref": f"#/$defs/{name}", "$defs": DOCUMENT["$defs"]})
    return [f"{name}: {error.json_path}: {error.message}" for error in validator.iter_errors(message)]


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    """Starts a served port for what it is given, and returns the pairs of request and reply."""

    def pairs(profile, ask):
        folder = tmp_path_factory.mktemp("recorded")
        (folder / "recorder.py").write_text(RECORDER)
        ask(shlex.join([sys.executable, str(folder / "recorder.py"), str(folder / "log"), profile]))
        lines = [json.loads(line or "null") for line in (folder / "log").read_text().splitlines()]
        return list(zip(lines[::2], lines[1::2], strict=True))

    return pairs


@pytest.fixture(scope="module")
def conversation(record):
    """What is said by a few rules, which call every method."""
    return [pair for profile, rules in EVERY_METHOD.items() for pair in record(profile, partial(judged_by, rules))]


def judged_by(rules, command):
    port = CommandPort(command)
    outcomes = [judge(rule, port, level="smoke") for rule in RULES if rule.id in rules.split()]
    assert {each.verdict for each in outcomes} == {"pass"}


def faults_of(pairs):
    for request, reply in pairs:
        yield from refused(f"{request['method']}_request", request)
        yield from refused("error_reply" if "error" in reply else f"{request['method']}_reply", reply)


def test_the_committed_schema_is_generated():
    written = resources.files("detr_conformance").joinpath("protocol.schema.json").read_text()
    assert written == schema(), "run: python -m detr_conformance.protocol.schema > conformance/protocol.schema.json"
    jsonschema.Draft202012Validator.check_schema(DOCUMENT)


def test_every_record_and_each_of_its_fields_is_described():
    records = [each for name, each in DOCUMENT["$defs"].items() if name[0].isupper() and name != "Array"]
    assert all(each["description"] for each in records)
    assert [
        name for each in records for name, field in each["properties"].items() if not field.get("description")
    ] == []


def test_what_a_run_sends_and_a_served_port_replies_follows_the_schema(conversation):
    assert {request["method"] for request, _ in conversation} == {"describe", "loss", *METHODS.values()}
    assert list(faults_of(conversation)) == []


@pytest.mark.thorough
def test_so_does_a_run_of_all_rules(record, check):
    assert list(faults_of(record("ultralytics", lambda command: check(f"--command={command}", "--", "-n", "0")))) == []


def test_so_does_what_a_probe_sends_but_for_the_method_that_there_is_not(record):
    pairs = record("ultralytics", lambda command: probe(CheckOptions(port=command, adapter=COMMAND, level="smoke")))
    [unknown] = [pair for pair in pairs if pair[0]["method"] == "no such method"]
    assert refused("error_reply", unknown[1]) == []
    [stop] = [request for request, _ in pairs if request["method"] == "stop"]
    assert refused("stop_request", stop) == []
    assert list(faults_of(pair for pair in pairs if pair[0]["method"] not in ("stop", "no such method"))) == []


DROPPED = object()
BROKEN = {
    "loss_request": [
        (("case",), None, "is not of type 'object'"),
        (("case", "denoising"), DROPPED, "'denoising' is a required property"),
        (("case", "masks"), [], "[] is not valid under any of the given schemas"),
        (("case", "extra"), 1, "Additional properties are not allowed ('extra' was unexpected)"),
        (("case", "gt_groups", 0), 1.5, "1.5 is not of type 'integer'"),
        (("case", "pred_bboxes", "shape", 3), 5, "4 was expected"),
        (("case", "pred_bboxes", "shape"), [4], "[4] is too short"),
        (("case", "pred_bboxes", "dtype"), "bfloat16", "'bfloat16' is not one of"),
        (("case", "pred_bboxes", "data"), "A$", "'A$' does not match"),
        (("id",), DROPPED, "'id' is a required property"),
        (("method",), "match", "'loss' was expected"),
    ],
    "loss_reply": [
        (("answer",), 1.0, "1.0 is not of type 'object'"),
        (("answer", "losses"), DROPPED, "'losses' is a required property"),
        (("answer", "losses", "loss_bbox"), None, "None is not valid under any of the given schemas"),
        (("answer", "loss"), {}, "Additional properties are not allowed ('loss' was unexpected)"),
        (("error",), {}, "Additional properties are not allowed ('error' was unexpected)"),
    ],
    "match_reply": [
        (("answer", 0, 0), [[0]], "[[0]] is too short"),
        (("answer", 0, 0, 1), 0, "0 is not of type 'array'"),
    ],
    "loss_in_mode_request": [(("mode",), "training", "'training' is not one of ['no_grad'")],
    "describe_request": [(("protocol",), 2, "1 was expected")],
    "describe_reply": [
        (("answer", "dtypes"), "float32", "'float32' is not of type 'array'"),
        (("answer", "keys"), {"aux": "l"}, "{'aux': 'l'} is not valid under any of the given schemas"),
    ],
}


@pytest.mark.parametrize(
    ("name", "path", "value", "reason"), [(name, *each) for name in BROKEN for each in BROKEN[name]]
)
def test_a_broken_message_is_refused(name, path, value, reason, conversation):
    method, _, side = name.rpartition("_")
    message = deepcopy(next(pair[side == "reply"] for pair in conversation if pair[0]["method"] == method))
    assert refused(name, message) == []
    broken = reduce(lambda part, step: part[step], path[:-1], message)
    if value is DROPPED:
        del broken[path[-1]]
    else:
        broken[path[-1]] = value
    assert any(reason in fault for fault in refused(name, message))
