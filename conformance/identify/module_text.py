"""The Python module of an identified spec, for `check --profile module:SPEC`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from detr_conformance.identify.found import Finding
from detr_conformance.reference import FAMILY

HEAD = '''"""{about}"""

{imports}

'''


def module_of(port: str, nearest: str, findings: Sequence[Finding], is_exact: bool) -> str:
    """A module whose `SPEC` is a member of the family with some fields decided otherwise.

    Args:
        port: name of the port.
        nearest: that of the member.
        findings: field by field.
        is_exact: whether the member explains every answer.
    """
    about, differences = _about(port, findings, is_exact), [each for each in findings if each.differs]
    if not differences:
        head = HEAD.format(about=about, imports="from detr_conformance.reference import FAMILY")
        return f'{head}SPEC = FAMILY["{nearest}"]\n'
    lines = [HEAD.format(about=about, imports=_imports(differences)) + "SPEC = differs("]
    lines += [f'    FAMILY["{nearest}"],', f"    {spec_name(port)!r},"]
    for finding in differences:
        [option, *_] = finding.options
        lines += [f"    {finding.field.replace('.', '__')}=(", f"        {option.source},"]
        lines += [f"        {option.sentence!r},", f"        {option.link!r},", "    ),"]
    return "\n".join([*lines, ")", ""])


def spec_name(port: str) -> str:
    """A name for the spec of a port, which no member of the family has."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", port).strip("-") or "port"
    return f"{name}-identified" if name in FAMILY else name


def _about(port: str, findings: Sequence[Finding], is_exact: bool) -> str:
    """The docstring; a port's name cannot end it."""
    how = "exactly" if is_exact else "as far as it could be told"
    about = f"What the port {spec_name(port)} decides, as `detr-conformance identify` found it: {how}."
    guesses = [each.field for each in findings if each.told == "none fits"]
    if is_exact or not guesses:
        return about
    return f"{about}\n\nA guess, because nothing known explains the port's answers: {', '.join(guesses)}.\n"


def _imports(differences: Sequence[Finding]) -> str:
    sources = " ".join(option.source for finding in differences for option in finding.options[:1])
    ours = "from detr_conformance.identify import alternatives\n" if "alternatives." in sources else ""
    names = ["FAMILY", *(["Guard"] if "Guard(" in sources else []), "differs"]
    return f"{ours}from detr_conformance.reference import {', '.join(names)}"
