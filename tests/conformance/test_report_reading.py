from __future__ import annotations

import json

import msgspec
import pytest

from detr_conformance.report import Report
from detr_conformance.reports.reading import read_report


def changed(make_report, *path, to):
    """A report as JSON with the value at a path replaced."""
    document = json.loads(make_report({"BOX-01": "fail"}).to_json())
    *way, last = path
    owner = document
    for step in way:
        owner = owner[step]
    owner[last] = to
    return json.dumps(document)


def test_a_report_is_read_back_as_it_was_written(make_report, write_report):
    report = make_report({"BOX-01": "fail", "BOX-02": "unsupported"}, judged="BOX|REG")
    path = write_report("report.json", {"BOX-01": "fail", "BOX-02": "unsupported"}, judged="BOX|REG")
    assert read_report(path) == msgspec.json.decode(report.to_json(), type=Report)


BAD = {
    "nothing": (lambda _: b"", "Input data was truncated"),
    "cut short": (lambda make: make().to_json()[:-40].encode(), "truncated"),
    "no JSON": (lambda _: b"<html>", "JSON is malformed"),
    "no text": (lambda _: b'{"schema_version": 1, "suite": "\xff"}', "is no report"),
    "no object": (lambda _: b"[]", "Expected `object`, got `array`"),
    "too deep": (lambda _: b'{"schema_version": 1, "a": ' + b"[" * 100_000, "is no report"),
    "something else": (lambda _: b'{"format": "detr-conformance case"}', "required field `schema_version`"),
    "another version": (lambda make: changed(make, "schema_version", to=2), "schema_version is 2, but this release"),
    "a field of another type": (lambda make: changed(make, "seed", to="0"), "Expected `int`, got `str` - at `$.seed`"),
    "a port without a name": (lambda make: changed(make, "port", to={}), "field `name` - at `$.port`"),
    "an unknown verdict": (lambda make: changed(make, "rules", 0, "verdict", to="ok"), "value 'ok'"),
    "an id that is a path": (lambda make: changed(make, "rules", 0, "id", to="../x"), "at `$.rules[0].id`"),
    "a negative share": (lambda make: changed(make, "rules", 0, "share", to=-1), "at `$.rules[0].share`"),
    "a rule twice": (lambda make: changed(make, "rules", 1, "id", to="BOX-01"), "names the rule BOX-01 2 times"),
    "other counts": (lambda make: changed(make, "counts", "fail", to=2), "counts.fail is 2, but 1 rules are fail"),
    "a missing count": (lambda make: changed(make, "counts", to={}), "field `pass` - at `$.counts`"),
    "a strange diagnosis": (lambda make: changed(make, "diagnosis", to=3), "got `int` - at `$.diagnosis`"),
    "a mistake without a link": (
        lambda make: changed(make, "diagnosis", to={"message": "m", "deviations": [{"id": "a", "story": "b"}]}),
        "field `link` - at `$.diagnosis.deviations[0]`",
    ),
    "half a divergence": (
        lambda make: changed(make, "rules", 0, "divergence", to={"step": "cost"}),
        "field `what` - at `$.rules[0].divergence`",
    ),
    "a cause that is no rule": (
        lambda make: changed(make, "rules", 0, "blocked_by", to="<b>"),
        "at `$.rules[0].blocked_by`",
    ),
    "an unknown obligation": (lambda make: changed(make, "rules", 0, "obligation", to="MAY"), "value 'MAY'"),
    "a remark that is none": (
        lambda make: changed(make, "rules", 0, "obligation", to="SHOULD"),
        "its verdict is non-conformant, but its rules make it conformant",
    ),
    "another verdict": (lambda make: changed(make, "verdict", to="partial"), "but its rules make it non-conformant"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_report_is_refused_in_one_sentence(name, make_report, refusal, tmp_path):
    write, reason = BAD[name]
    path, text = tmp_path / "report.json", write(make_report)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    for command in (("report", str(path)), ("compare", str(path), str(path))):
        sentence = refusal(*command)
        assert str(path) in sentence
        assert reason in sentence


@pytest.mark.parametrize(("path", "reason"), [("no/such/file", "No such file"), (".", "directory"), ("\0", "null")])
def test_a_file_that_cannot_be_read_is_refused(path, reason, refusal):
    assert reason in refusal("report", path)
