"""What comes back: the reply of a line, and what a method has answered, as a port's method returns it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from detr_conformance.properties import answers
from detr_conformance.properties.answers import shortened
from detr_conformance.properties.place import Raised
from detr_conformance.properties.port import SEVERAL, DenoisingGroup, LossResult
from detr_conformance.protocol.messages import MessageError, decoded, parsed, quoted

OF_LOSSES = ("loss", "loss_in_mode", "loss_in_situation", "loss_built")
"""Methods whose answer is a LossResult."""


def reply_of(text: bytes, sent: int) -> dict[str, Any]:
    """The reply of a line, to the request of this number: an object with `answer` or `error`.

    Raises:
        MessageError: it is none.
    """
    reply = parsed(text)
    if reply.keys() - {"id"} not in ({"answer"}, {"error"}):
        names = ", ".join(map(repr, reply)) or "nothing"
        raise MessageError(f"a reply with {names}, expected 'id', and 'answer' or 'error'")
    if reply.get("id") != sent:
        told = quoted(reply.get("id"))
        raise MessageError(f"a reply with the id {told}, expected {sent}: one line for each request")
    if "error" in reply and not isinstance(reply["error"], dict):
        told = quoted(reply["error"])
        raise MessageError(f"an error that is {told}, expected an object with type and message")
    return reply


def raised(error: Mapping[str, Any]) -> Raised:
    """What a reply tells of an exception."""
    told = {name: shortened(error.get(name) or "") for name in ("type", "message", "place")}
    return Raised(
        type=told["type"] or "Exception",
        message=told["message"] or "without a message",
        place=told["place"] or None,
        traceback=str(error.get("traceback") or "")[-20_000:],
    )


def answer_of(method: str, answer: Any) -> Any:
    """What a method has answered, from a reply: what a port's method returns.

    Raises:
        MessageError: it lacks a field, or has one that is unknown.
    """
    given = decoded(answer)
    if method in SEVERAL:
        return [_record(LossResult, each) for each in given] if isinstance(given, list) else given
    if method in OF_LOSSES:
        return _record(LossResult, given)
    if method in ("denoising_group", "denoising_group_called") and given is not None:
        return _record(DenoisingGroup, given)
    return given


def _record(kind: type[Any], given: Any) -> Any:
    """A LossResult or a DenoisingGroup, of an object with its fields."""
    known = {each.name: each for each in fields(kind)}
    needed = [name for name, each in known.items() if each.default is MISSING and each.default_factory is MISSING]
    if not isinstance(given, dict):
        raise MessageError(f"the answer is {quoted(given)}, expected an object with {', '.join(known)}")
    for name in (*(each for each in needed if each not in given), *(each for each in given if each not in known)):
        what = "lacks" if name in needed else "has the unknown field"
        raise MessageError(f"the answer {what} {name!r}, expected {', '.join(known)}")
    for name, value in given["losses"].items() if isinstance(given.get("losses"), dict) else ():
        if value is None:
            raise MessageError(f"losses.{name} is null, expected an array, which may hold NaN, or a number")
    return kind(**given)


READ = {
    **dict.fromkeys(OF_LOSSES, answers.loss_result),
    **dict.fromkeys(SEVERAL, answers.loss_results),
    **dict.fromkeys(("match", "match_built"), answers.matchings),
    **dict.fromkeys(("denoising_group", "denoising_group_called"), answers.denoising_group),
    "denoising_indices": answers.pairs,
    "defaults": answers.options,
    "point_counts": answers.point_counts,
}
"""How the answer to a method is read, which refuses what none can be."""
