"""What a port says of itself in reply to `describe`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import msgspec

from detr_conformance.errors import UsageError
from detr_conformance.properties.port import Port, keys_of, options_of
from detr_conformance.protocol.messages import MessageError, quoted
from detr_conformance.reference import FAMILY, LossSpec
from detr_conformance.reference.keys import KeyTable, LayerKeys, SummedKeys

CANONICAL: Literal["canonical"] = "canonical"
"""Stands for the table of the canonical keys, where a profile has another."""


@dataclass(frozen=True)
class Description:
    """What a port says of itself.

    Attributes:
        name: what the report calls it.
        profile: name of the conventions that it follows, which `detr-conformance list` shows; another name goes with
            `--profile package.module:SPEC`.
        capabilities: what it declares beyond `loss`.
        dtypes: of predictions that it takes: any of float16, bfloat16, float32, float64.
        options: for each option that it restricts the values that may be asked for.
        keys: the names of its losses, where they are not those of its profile: forms, or `canonical`.
    """

    name: str
    profile: str
    capabilities: Sequence[str]
    dtypes: Sequence[str]
    options: Mapping[str, Sequence[float | Mapping[str, float]]] = field(default_factory=dict)
    keys: LayerKeys | Literal["canonical"] | None = None

    @property
    def table(self) -> KeyTable | None:
        """The keys as a port has them."""
        return SummedKeys() if self.keys == CANONICAL else self.keys


def description_of(port: Port) -> Description:
    """What a port in Python declares.

    Raises:
        UsageError: a spec of its own is called as one of the family is, or its keys are a class of its own: the
            protocol has no form for these.
    """
    profile, keys = port.profile, keys_of(port)
    name = profile.name if isinstance(profile, LossSpec) else profile
    if isinstance(profile, LossSpec) and FAMILY.get(name, profile) is not profile:
        raise UsageError(f"a spec of your own is called {name!r}, as one of the family: give it another name")
    if keys is not None and type(keys) not in (LayerKeys, SummedKeys):
        kind = type(keys).__name__
        raise UsageError(f"keys that are {kind} cannot be served, expected LayerKeys or SummedKeys: use check PORT")
    return Description(
        name=port.name,
        profile=name,
        capabilities=sorted(port.capabilities),
        dtypes=sorted(port.dtypes),
        options=options_of(port),
        keys=keys if isinstance(keys, LayerKeys) else None if keys is None else CANONICAL,
    )


def description_in(answer: Any) -> Description:
    """The description in the answer to `describe`.

    Raises:
        MessageError: it lacks something, or has what none can have.
    """
    try:
        described = msgspec.convert(answer, Description)
    except msgspec.ValidationError as error:
        raise MessageError(f"its description is {quoted(answer)}: {error}") from error
    _refuse_unknown("its description", answer, Description)
    if isinstance(described.keys, LayerKeys):
        _refuse_unknown("keys of its description", answer["keys"], LayerKeys)
    return described


def _refuse_unknown(what: str, given: Mapping[str, Any], kind: type[Any]) -> None:
    known = [each.name for each in fields(kind)]
    for name in given.keys() - {*known}:
        raise MessageError(f"{what} has the unknown field {name!r}, expected {', '.join(known)}")
