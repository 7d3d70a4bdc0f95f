"""The Python module of an identified spec, for `check --profile module:SPEC`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from detr_conformance.identify.found import Finding
from detr_conformance.reference import FAMILY

HEAD = '''"""{about}"""

{imports}

'''


def module_of(port: str, nearest: str, differences: Sequence[Finding]) -> str:
    """A module whose `SPEC` is a member of the family with some fields decided otherwise."""
    if not differences:
        head = HEAD.format(about=_about(port, "exactly"), imports="from detr_conformance.reference import FAMILY")
        return f'{head}SPEC = FAMILY["{nearest}"]\n'
    lines = [HEAD.format(about=_about(port, "with differences"), imports=_imports(differences)) + "SPEC = differs("]
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


def _about(port: str, how: str) -> str:
    """The docstring; a port's name cannot end it."""
    return f"What the port {spec_name(port)} decides, as `detr-conformance identify` found it: {how}."


def _imports(differences: Sequence[Finding]) -> str:
    sources = " ".join(option.source for finding in differences for option in finding.options[:1])
    ours = "from detr_conformance.identify import alternatives\n" if "alternatives." in sources else ""
    names = ["FAMILY", *(["Guard"] if "Guard(" in sources else []), "differs"]
    return f"{ours}from detr_conformance.reference import {', '.join(names)}"
