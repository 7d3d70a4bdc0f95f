"""Ports that a command starts: what goes over the streams, what a harness may do wrong, and the whole of a run."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
import time
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from detr_conformance.errors import UsageError
from detr_conformance.options import COMMAND, CheckOptions
from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.probe import probe
from detr_conformance.properties.drawing import pool
from detr_conformance.properties.place import Raised, RaisedElsewhere
from detr_conformance.properties.port import METHODS, capabilities_of
from detr_conformance.properties.port_under_test import PortUnderTest, call_of
from detr_conformance.properties.request import Request
from detr_conformance.properties.strategies import Domain
from detr_conformance.protocol import messages, process, replies, streams
from detr_conformance.protocol.command_port import CommandPort
from detr_conformance.protocol.description import description_in
from detr_conformance.protocol.process import CommandError, Process
from detr_conformance.protocol.serving import reply_to
from detr_conformance.reference import FAMILY, RTDETR, ULTRALYTICS
from detr_conformance.reference.keys import SummedKeys
from detr_conformance.resolve import resolve

pytestmark = [pytest.mark.usefixtures("shapes_unchecked"), pytest.mark.timeout(60)]
SERVED = shlex.join([sys.executable, "-m", "detr_conformance", "serve", "reference"])

PAGE = (Path(__file__).parents[2] / "docs/any-language.md").read_text(encoding="utf-8")
[SHOWN] = re.findall(r"^```python\n(# harness.py\n.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
HARNESS = SHOWN.replace("import base64\n", "import base64\nimport os\nimport time\n").replace(
    '"message": str(error)}', '"message": str(error), "place": "small.py, line 9"}'
)
"""The harness that the page shows, which says where an error was, too."""
KEYS = {f"loss_{term}{part}" for term in ("class", "bbox", "giou") for part in ("", "_aux")}

OWN_SPEC = """
from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.reference import RTDETR, Guard, differs

MINE = differs(RTDETR, "mine", guard=(Guard(0.01), "Areas are made larger.", "https://example.org"))
port = ReferencePort(MINE)
"""


def cases(spec, number=6):
    judged = PortUnderTest(ReferencePort(spec))
    return islice(pool(Request(denoising="sometimes", extra="sometimes"), Domain.of(judged), 0), number)


@pytest.fixture
def harness(tmp_path):
    """The command of a harness, after one part of its text was replaced by another."""

    def command(before="", after=""):
        assert before in HARNESS
        path = tmp_path / "harness.py"
        path.write_text(HARNESS.replace(before, after) if before else HARNESS)
        return shlex.join([sys.executable, str(path)])

    return command


@pytest.fixture
def case():
    return next(cases(ULTRALYTICS))


# What goes over the streams.


@pytest.mark.parametrize("spec", FAMILY.values(), ids=lambda spec: spec.name)
def test_a_case_comes_back_from_a_line_bit_for_bit(spec):
    for each in cases(spec):
        sent = messages.parsed(messages.line(messages.request("loss", each)))
        [back] = messages.arguments(sent)
        assert back == each


def test_what_else_a_method_is_given_comes_back_too(case):
    for method, more in (
        ("loss_in_mode", "no_grad"),
        ("loss_in_situation", "validated"),
        ("accumulated_gradients", [{"loss_bbox": 0.5}]),
    ):
        sent = messages.parsed(messages.line(messages.request(method, case, more)))
        assert messages.arguments(sent) == [case, more]
    sent = messages.parsed(messages.line(messages.request("losses_in_turn", [case, case])))
    assert messages.arguments(sent) == [[case, case]]


def test_every_method_of_the_protocol_can_be_read_or_is_looked_at_later():
    assert {*replies.READ, "accumulated_gradients"} == {"loss", *METHODS.values()}


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        ({"shape": [2], "dtype": "float32", "data": "AAAA"}, "of shape [2] and dtype float32 with 3 bytes"),
        ({"shape": [1], "dtype": "bfloat16", "data": "AAA="}, 'of dtype "bfloat16", expected one of float16'),
        ({"shape": [-1], "dtype": "float32", "data": ""}, "of shape [-1], expected a list of integers"),
        ({"shape": [1], "dtype": "float32", "data": "A$"}, 'whose data "A$" are not base64'),
        ({"shape": [1], "dtype": "float32", "data": 7}, "whose data 7 are not base64"),
        ({"shape": [0, 2**70], "dtype": "float32", "data": ""}, "of shape [0, 1180591620717411303424]: "),
    ],
)
def test_an_array_that_is_none_is_refused(array, reason):
    with pytest.raises(messages.MessageError) as refused:
        messages.decoded({"losses": {"loss_bbox": array}})
    assert str(refused.value).startswith(f"losses.loss_bbox is an array {reason}")


def test_a_number_that_json_does_not_have_is_refused_outside_of_an_array():
    with pytest.raises(messages.MessageError, match="put it into an array"):
        messages.line({"answer": float("nan")})
    assert np.isnan(messages.decoded(messages.encoded(np.array([np.nan])))[0])


def test_a_case_that_lacks_something_is_refused(case):
    document = messages.encoded(case)
    with pytest.raises(messages.MessageError, match="a case that does not fit together"):
        messages.case_of({name: each for name, each in document.items() if name != "matcher"})
    with pytest.raises(messages.MessageError, match="a request for loss without 'case'"):
        messages.arguments({"method": "loss"})


# What a harness may do.


def test_a_small_harness_is_a_port(harness, case):
    port = CommandPort(harness())
    assert (port.name, port.profile, port.capabilities, port.dtypes) == (
        "one term",
        "ultralytics",
        frozenset({"focal"}),
        frozenset({"float32"}),
    )
    first = np.abs(case.pred_bboxes[-1, 0, 0] - case.gt_bboxes[0]).sum()
    assert port.loss(case).losses["loss_bbox"] == np.float32(case.config.loss_gain["bbox"] * first)
    assert not hasattr(port, "match")
    assert not capabilities_of(port) - {"focal"}
    assert port.process.stop() == 0


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("os._exit(3)", "the command ended (exit status 3)"),
        ('sys.stderr.write("no GPU\\n"); os._exit(1)', "the command ended (exit status 1): no GPU"),
        ("os.abort()", "the command ended (signal 6)"),
        (
            "sys.stdout.write('{\"answer\": '); sys.stdout.flush(); os._exit(0)",
            "the command ended (exit status 0), in the middle of a line",
        ),
        (
            'sys.stderr.write("TypeError: no GPU\\n\\nNode.js v20\\n"); os._exit(1)',
            "the command ended (exit status 1): TypeError: no GPU",
        ),
        ('print("epoch 1", flush=True)', 'the command wrote "epoch 1", which is no JSON'),
        ('print("[]", flush=True)', "the command wrote [], expected a JSON object"),
        ('print("{}", flush=True)', "the command wrote a reply with nothing, expected 'id', and 'answer' or 'error'"),
        ('print(\'{"id": 1, "answer": 3}\', flush=True)', "the command wrote a reply with the id 1, expected 2"),
        (
            'print(\'{"id": 2, "error": "no"}\', flush=True)',
            'the command wrote an error that is "no", expected an object',
        ),
        ('print(\'{"id": 2, "answer": NaN}\', flush=True)', "the command wrote NaN, which JSON does not have"),
        (
            'return {"losses": {"loss_bbox": None}}',
            "loss: losses.loss_bbox is null, expected an array, which may hold NaN",
        ),
        (
            'return {"losses": {"loss_bbox": {"shape": [3], "dtype": "float32", "data": ""}}}',
            "loss: losses.loss_bbox is an array of shape [3] and dtype float32 with 0 bytes",
        ),
        ('return {"loss": 1.0}', "loss: the answer lacks 'losses', expected losses, gradients, dtypes, mutated"),
        ("return 1.0", "loss: the answer is 1.0, expected an object with losses, gradients, dtypes, mutated"),
    ],
)
def test_a_harness_that_lies_is_an_error_that_says_how_and_the_next_call_is_answered(harness, case, body, reason):
    once = f"""def loss(case):
    if not os.path.exists(__file__ + ".lied"):
        open(__file__ + ".lied", "w").close()
        {body}
"""
    port = CommandPort(harness("def loss(case):\n", once))
    with pytest.raises(CommandError) as lied:
        port.loss(case)
    assert str(lied.value).startswith(reason)
    assert port.loss(case).losses.keys() == KEYS


def test_a_line_without_an_end_is_not_kept(harness, case, monkeypatch):
    monkeypatch.setattr(streams, "LONGEST", 2**20)
    endless = 'def loss(case):\n    while True:\n        sys.stdout.write("7" * 2**16)\n'
    with pytest.raises(CommandError, match="wrote more than 1,048,576 bytes without the end of a line"):
        CommandPort(harness("def loss(case):\n", endless)).loss(case)


def test_an_exception_of_the_port_comes_with_its_place(harness, case):
    port = CommandPort(harness("def loss(case):\n", "def loss(case):\n    raise KeyError('loss_gain')\n"))
    with pytest.raises(RaisedElsewhere) as raised:
        port.loss(case)
    assert raised.value.raised == Raised("KeyError", "'loss_gain'", "small.py, line 9", "")
    assert port.process.ends == 0, "it goes on"


def test_a_process_that_ends_in_every_call_is_not_started_for_ever(harness, case, monkeypatch):
    monkeypatch.setattr(process, "MOST_ENDS", 2)
    port = CommandPort(harness("def loss(case):\n", "def loss(case):\n    os._exit(3)\n"))
    for _ in range(2):
        with pytest.raises(CommandError, match="exit status 3"):
            port.loss(case)
    with pytest.raises(CommandError, match="not started again: it had ended 2 times, and answered 1"):
        port.loss(case)


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("no-such-program", "the command cannot be started"),
        ("  ", "the command is empty"),
        ("'", "the command cannot be started (No closing quotation)"),
        (f"{sys.executable} -c pass", "the command ended (exit status 0)"),
    ],
)
def test_a_command_that_describes_no_port_is_refused(command, reason):
    with pytest.raises(UsageError) as refused:
        CommandPort(command)
    assert reason in str(refused.value)


@pytest.mark.parametrize(
    ("after", "reason"),
    [
        ("", "Object missing required field `dtypes`"),
        (', "dtypes": "float32"', "Expected `array`, got `str` - at `$.dtypes`"),
        (', "dtypes": ["float32"], "option": {}', "the unknown field 'option', expected name, profile"),
        (', "dtypes": ["float32"], "options": {"gamma": 2.0}', "Expected `array`, got `float` - at `$.options[...]`"),
        (', "dtypes": ["float32"], "options": {"beta": [2.0]}', "restricts the unknown option 'beta'"),
        (', "dtypes": ["float32"], "keys": "own"', "Invalid enum value 'own' - at `$.keys`"),
        (', "dtypes": ["float32"], "keys": {"main": "l1"}', "main is 'l1', expected one {term} in it"),
        (', "dtypes": ["float32"], "keys": {"aux": "l1"}', "keys of its description has the unknown field 'aux'"),
    ],
)
def test_a_description_of_no_port_is_refused(harness, after, reason):
    command = harness(', "dtypes": ["float32"]', after)
    with pytest.raises(UsageError) as refused:
        resolve(CheckOptions(port=command, adapter=COMMAND))
    assert reason in str(refused.value)


@pytest.mark.parametrize("keys", [None, ULTRALYTICS.keys, RTDETR.keys, FAMILY["mmdet"].keys])
def test_keys_of_a_port_s_own_go_over_the_streams(keys, case):
    port = ReferencePort()
    port.keys = keys
    told = messages.parsed(reply_to(port, messages.line({"id": 1, "method": "describe"})))["answer"]
    table, call = description_in(told).table, call_of(case, ULTRALYTICS)
    assert table is keys is None or table.expected(call) == keys.expected(call)


def test_keys_that_the_protocol_has_no_form_for_are_refused():
    class OwnKeys(SummedKeys):
        pass

    port = ReferencePort()
    port.keys = OwnKeys()
    told = messages.parsed(reply_to(port, messages.line({"id": 1, "method": "describe"})))["error"]
    assert told["message"].startswith("keys that are OwnKeys cannot be served, expected LayerKeys or SummedKeys")


def test_losses_go_by_the_keys_of_the_description(harness, capsys):
    forms = '{"main": "l_{term}", "auxiliary": "l_{term}_aux"}'
    command = harness('"dtypes": ["float32"]', f'"dtypes": ["float32"], "keys": {forms}')
    path = Path(shlex.split(command)[1])
    path.write_text(path.read_text().replace("{key: message", '{key.replace("loss_", "l_"): message'))
    assert probed(command) == 0
    assert "ok    answers loss: l_class, l_bbox, " in capsys.readouterr().out


def test_a_served_port_with_a_spec_of_its_own_needs_a_profile(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("own_spec.py").write_text(OWN_SPEC)
    asked = {"port": SERVED.replace("serve reference", "serve own_spec:port"), "adapter": COMMAND}
    with pytest.raises(UsageError, match=r"names the profile 'mine': .* or package.module:SPEC, with --profile"):
        resolve(CheckOptions(**asked))
    assert resolve(CheckOptions(**asked, profile="own_spec:MINE"))[1].name == "mine"


def test_a_process_that_never_answers_is_ended(harness):
    process = Process(harness("for line in sys.stdin:\n", "for line in sys.stdin:\n    time.sleep(600)\n"))
    with pytest.raises(CommandError, match=r"did not answer describe within 0\.2 s"), process.ended_after(0.2):
        process.ask({"method": "describe", "protocol": 1})


def test_an_answer_too_many_is_not_taken_for_that_to_the_next_request(harness, case):
    last = "    print(json.dumps(reply), flush=True)\n"
    port = CommandPort(harness(last, f"{last}    time.sleep(0.2)\n{last}"))  # the second one to `describe`
    time.sleep(0.5)
    with pytest.raises(CommandError, match="a reply with the id 1, expected 2: one line for each request"):
        port.loss(case)
    with pytest.raises(UsageError, match="more than one line for a request"):
        CommandPort(harness(last, "    text = json.dumps(reply); print(text + chr(10) + text, flush=True)\n"))


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="there are no process groups")
def test_what_a_command_has_started_ends_with_it(harness, case, tmp_path):
    path = tmp_path / "wrapped"
    leaves = f"""def loss(case):
    import subprocess
    print(subprocess.Popen(['sleep', '600']).pid, file=open('{path}', 'w'))
    sys.exit(1)  # stdout stays open
"""
    with pytest.raises(CommandError, match="exit status 1"):
        CommandPort(harness("def loss(case):\n", leaves)).loss(case)
    status = Path(f"/proc/{path.read_text().strip()}/stat")
    until = time.monotonic() + 10
    while status.exists() and status.read_text().split()[2] != "Z" and time.monotonic() < until:
        time.sleep(0.05)
    assert not status.exists() or status.read_text().split()[2] == "Z"


def test_a_line_is_sent_whole_where_the_pipe_takes_a_part(harness):
    class Pipe:
        def __init__(self):
            self.taken = b""

        def write(self, text):
            self.taken += bytes(text[:7])
            return min(len(text), 7)

    pipe, line = Pipe(), b'{"method":"describe"}\n'
    streams.send(pipe, line)  # no pipe can be made to do so
    assert pipe.taken == line
    array = messages.as_array(np.arange(500_000.0))  # more than any pipe holds
    assert Process(harness()).ask({"method": "echo", "values": [array]}) == [array]


def test_what_a_served_port_answers_that_json_does_not_have_is_an_error_and_it_goes_on(case):
    class Undecided(ReferencePort):
        def defaults(self, case):
            return super().defaults(case) | {"gamma": float("nan")}

    port = Undecided()
    told = messages.parsed(reply_to(port, messages.line({"id": 1, **messages.request("defaults", case)})))
    assert told["error"]["type"] == "MessageError"
    assert (
        messages.parsed(reply_to(port, messages.line({"id": 2, "method": "describe"})))["answer"]["name"] == port.name
    )
    assert reply_to(port, messages.line({"method": "stop"})) == b""


# The probe.


def probed(command):
    return probe(CheckOptions(port=command, adapter=COMMAND, level="smoke"))


def test_a_harness_that_works_passes_the_probe(harness, capsys):
    assert probed(harness()) == 0
    shown = capsys.readouterr().out
    assert "ok    answers loss: loss_class, loss_bbox, loss_giou, loss_class_aux, " in shown
    assert shown.endswith("ok    ends when it is asked to\nthe harness speaks the protocol: check judges the port\n")


ARRAYS, ERRORS = "reads and writes arrays of ", "answers a request that it does not know"


@pytest.mark.parametrize(
    ("before", "after", "step", "reason"),
    [
        ('message["dtype"])', '">f8")', f"{ARRAYS}float64", 'an array of dtype ">f8", expected one of'),
        (".tobytes()", ".T.tobytes()", f"{ARRAYS}float64", "sent -0.0 at [0, 1], and 5e-324 came back"),
        ("array_from(each))", "array_from(each) + 0.0)", f"{ARRAYS}float64", "sent -0.0 at [1], and 0.0 came back"),
        ("array_from(each))", 'array_from(each).astype("f8"))', f"{ARRAYS}float32", "and float64 of shape (10,) came"),
        ("raise ValueError(f", "return (f", ERRORS, "the answer is 'unknown method no such method'"),
        ("except Exception", "except KeyboardInterrupt", ERRORS, "the command ended (exit status 1)"),
        ("def loss(case):\n", "def loss(case):\n    return 3\n", "answers loss", "the answer is 3, expected an object"),
        (
            "np.float32(value)",
            "np.float32([value, value])",
            "answers loss",
            "losses.loss_class has shape (2,)",
        ),
        (
            "{key: message_from",
            '{"l1": message_from',
            "answers loss",
            "no key of l1 is of ultralytics, expected loss_bbox, ",
        ),
        ('"profile": "ultralytics"', '"profile": "ultralitics"', "describes itself", "did you mean ultralytics?"),
        (".tobytes()", '.astype("f8").astype(array.dtype).tobytes()', f"{ARRAYS}int64", "sent 9007199254740993 at [7]"),
        ("        break\n", "        time.sleep(600)\n", "ends when it is asked to", "it had to be killed"),
    ],
)
def test_a_harness_that_does_not_work_fails_the_probe(before, after, step, reason, harness, capsys, monkeypatch):
    monkeypatch.setattr(process, "LEAVING", 1.0)
    assert probed(harness(before, after)) == 2
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith(f"FAIL  {step}")
    assert reason in last


# The whole of a run.


def test_a_served_port_is_judged_as_it_is(check):
    run = check(
        f"--command={SERVED}", "--json", "served.json", "--", "-n", "0", "-k", "CLASS-02 or DN-10 or MATCH-01 or API-09"
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "4 pass, 0 fail, 0 error, 0 unsupported" in run.stdout


def test_what_a_command_gets_wrong_is_shown_with_its_place_and_replayed(check, harness, tmp_path):
    path, packets = tmp_path / "report.json", tmp_path / "packets"
    command = harness("def loss(case):\n", "def loss(case):\n    case['masks']['sizes']\n")
    run = check(
        f"--command={command}",
        "--json",
        str(path),
        "--packets",
        str(packets),
        "--",
        "-n",
        "0",
        "-k",
        "API-01 or REG-01",
    )
    assert run.returncode == 1
    report = json.loads(path.read_text())
    assert report["port"]["asked"] == ["--command", command]
    [cause] = report["causes"]
    assert cause["rules"] == ["REG-01", "API-01"]
    assert report["rules"][0]["raised"]["place"] == "small.py, line 9"


def test_a_command_that_ends_is_an_error_of_the_rule_and_not_asked_again(check, harness):
    body = """def loss(case):
    if not os.path.exists(__file__ + '.died'):
        open(__file__ + '.died', 'w')
        os._exit(9)
"""
    command = harness("def loss(case):\n", body)
    run = check(f"--command={command}", "--every-rule", "--", "-n", "1", "-k", "API-02")
    assert run.returncode == 1
    assert "error API-02" in run.stdout
    assert "loss(case): the command ended (exit status 9)" in " ".join(run.stdout.split())


@pytest.mark.parametrize("processes", ["0", "1"])
def test_a_command_that_hangs_is_an_error_that_names_the_method(processes, check, harness):
    command = harness("def loss(case):\n", "def loss(case):\n    time.sleep(600)\n")
    run = check(f"--command={command}", "--every-rule", "--", "-n", processes, "--timeout=2", "-k", "API-02")
    assert "loss(case): no answer within 2 s: the port hangs, or needs a longer limit" in " ".join(run.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((), "no port is named: expected PORT, or --command COMMAND"),
        (("reference", "--command", "x"), "--command stands for PORT, --adapter and --denoising"),
        (("reference", "--probe"), "--probe is for a port that --command starts"),
    ],
)
def test_a_port_is_named_once(arguments, reason, capsys):
    from detr_conformance.cli import main

    assert main(["check", *arguments]) == 2
    assert reason in capsys.readouterr().err
