"""A Python port on standard streams, for whoever starts this process with `--command`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from detr_conformance.properties.place import raised_by
from detr_conformance.properties.port import METHODS, LossResult, Port
from detr_conformance.protocol import messages, replies
from detr_conformance.protocol.description import description_of


def serve(build: Callable[[], Port]) -> None:
    """Answer requests until there is none, or one to stop.

    Args:
        build: makes the port. What it prints, and all that the port prints later, goes to stderr.

    Raises:
        UsageError: it cannot be made.
    """
    asked, answered = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what the port prints is no reply
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    port = build()
    for text in asked:
        reply = reply_to(port, text)
        if not reply:
            return
        answered.write(reply)
        answered.flush()


def reply_to(port: Port, text: bytes) -> bytes:
    """The line in reply to one; nothing to the request to stop."""
    message: dict[str, Any] = {}
    try:
        message = messages.parsed(text)
        if message.get("method") == "stop":
            return b""
        answer = _answer(port, str(message.get("method")), message)
        return messages.line({"id": message.get("id"), "answer": answer})
    except (Exception, SystemExit) as error:  # noqa: BLE001  # told to whoever asked
        return messages.line({"id": message.get("id"), "error": asdict(raised_by(error))})


def _answer(port: Port, method: str, message: Mapping[str, Any]) -> Any:
    if method == "describe":
        return messages.encoded(description_of(port))
    if method == "echo":
        return [messages.as_array(each) for each in messages.decoded(message["values"])]
    if method != "loss" and method not in METHODS.values():
        raise messages.MessageError(f"there is no method {method!r}")
    answer = getattr(port, method)(*messages.arguments(message))
    read = replies.READ.get(method)
    return messages.encoded(answer if read is None else _with_gradients(read(answer)))


def _with_gradients(answer: Any) -> Any:
    """The answer, with gradients as a plain mapping: they may be computed when they are asked for."""
    if isinstance(answer, list) and answer and isinstance(answer[0], LossResult):
        return [_with_gradients(each) for each in answer]
    if not isinstance(answer, LossResult):
        return answer
    return LossResult(
        answer.losses, {key: dict(answer.gradients[key]) for key in answer.gradients}, answer.dtypes, answer.mutated
    )
