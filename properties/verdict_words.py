"""The words of a verdict, which scripts depend on: docs/decisions/verdict-words.md says what each means."""

from __future__ import annotations

from typing import Literal, get_args

Verdict = Literal["pass", "fail", "error", "unsupported", "xfail", "stale"]
"""Of a rule."""

Overall = Literal["conformant", "partial", "non-conformant"]
"""Of a run."""

Obligation = Literal["MUST", "SHOULD"]
"""Of a rule, as RFC 2119 has it: what a correct training step needs, and what a careful implementation gives."""

VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
