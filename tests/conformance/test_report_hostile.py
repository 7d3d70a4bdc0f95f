"""Whatever a port says of itself stays text: it runs nothing, writes nothing, and does not flood what people read."""

from __future__ import annotations

from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import pytest

from detr_conformance.cli import main

MEGABYTE = 1_000_000
VOID = {"meta", "link", "br", "img"}


class Page(HTMLParser):
    """What a browser would build: elements with their attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements, self.text, self.open = [], "", []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def written(hostile_report, tmp_path, capsys):
    """The forms of a hostile report, by the option; `console` is what is printed."""
    folder = tmp_path / "inner" / "reports"
    folder.mkdir(parents=True)
    (folder / "report.json").write_text(hostile_report.to_json())
    options = {form: folder / f"out.{form}" for form in ("html", "markdown", "junit", "badge")}
    words = [word for form, path in options.items() for word in (f"--{form}", str(path))]
    assert main(["report", str(folder / "report.json"), *words]) == 0
    assert main(["report", str(folder / "report.json")]) == 0
    forms = {form: path.read_text() for form, path in options.items()}
    return {**forms, "console": capsys.readouterr().out}


def test_no_file_is_written_outside_the_named_ones(written, tmp_path):
    files = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {"report.json", *(f"out.{form}" for form in written if form != "console")}


def test_the_page_holds_nothing_that_runs_or_loads(written):
    page = Page(written["html"])
    assert page.open == []
    assert not {tag for tag, _ in page.elements} & {"script", "iframe", "object", "embed", "form", "base", "svg"}
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("href", "src", "action", "style"):
            assert_harmless(tag, name, attributes.get(name) or "")
    assert "<script>document.title = 'owned'</script>" in page.text


def assert_harmless(tag, name, value):
    __tracebackhide__ = True
    if name == "style":
        assert value == "" or value.startswith("width: ")
    elif tag == "a" and name == "href":
        assert value.startswith(("#", "data:application/json;base64,", "https://example.org/"))
    else:
        assert value == "" or value.startswith("data:")


def test_a_download_has_a_plain_name(written):
    names = [attributes["download"] for _, attributes in Page(written["html"]).elements if "download" in attributes]
    assert names
    assert all(name.replace("-", "").replace(".json", "").isalnum() for name in names)


def test_the_tests_of_the_ci_system_are_valid_xml(written):
    root = ET.fromstring(written["junit"].encode())  # noqa: S314  # our own
    assert "<script>" in root[0].get("name")


@pytest.mark.parametrize("form", ["console", "html", "markdown", "junit", "badge"])
def test_no_form_holds_a_control_character_or_a_flood(form, written):
    text = written[form]
    assert all(each == "\n" or each.isprintable() for each in text)
    assert len(text) < MEGABYTE
    assert "A" * 3000 not in text


def test_the_console_stays_readable(written):
    lines = written["console"].splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) < 500
    assert "characters more)" in written["console"]
    assert any(line.startswith("non-conformant, 1 remark: ") for line in lines[-2:])


def test_a_change_of_a_hostile_name_is_told_on_one_line(hostile_report, write_report, capsys, tmp_path):
    (tmp_path / "new.json").write_text(hostile_report.to_json())
    assert main(["compare", write_report("old.json"), str(tmp_path / "new.json")]) == 1
    out = capsys.readouterr().out
    assert all(each == "\n" or each.isprintable() for each in out)
    assert max(map(len, out.splitlines())) < 250
