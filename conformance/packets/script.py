"""The script beside a packet: at most 20 lines that ask the port again, without this suite.

A loss class with Ultralytics' signature is called with tensors, and nothing of ours is imported. Any other port is
called with a `LossCase`, which it is written against, and which needs NumPy and jaxtyping: no Hypothesis, no pytest.
"""

from __future__ import annotations

from typing import NamedTuple

from detr_conformance.options import COMMAND
from detr_conformance.packets.packet import Packet
from detr_conformance.packets.script_lines import compared, indented, loaded, verdict
from detr_conformance.packets.script_tensors import takes_tensors, with_tensors
from detr_conformance.properties.port import SEVERAL
from detr_conformance.resolve import BUILT_IN

MOST_LINES = 20
FOLLOW = """def follow(answer, way):
    return reduce(lambda at, step: getattr(at, step) if hasattr(at, str(step)) else at[step], way, answer)"""

READ = {
    "type": "came = type(answer).__name__",
    "keys": 'came = str(sorted(follow(answer, line["at"][0])))',
    "shape": 'came = str(np.shape(follow(answer, line["at"][0])))',
    "list": 'came = str(np.asarray(follow(answer, line["at"][0])).tolist())',
    "number": 'came = float(sum(np.sum(follow(answer, way)) for way in line["at"]))',
    "accumulated": """(place, name, *entry), came = line["at"][0], 0.0
if (grad := answer[place].get(name)) is not None:
    came = float(np.asarray(grad)[tuple(entry)])""",
    "pairs": 'came = str(sorted(zip(*(np.asarray(side).tolist() for side in answer[line["at"][0][0]]))))',
    "cost": """cost, (layer, image) = np.array(line["cost"], dtype=float), line["at"][0]
queries, targets = (np.asarray(side).tolist() for side in answer[layer][image])
legal = len(set(queries)) == len(set(targets)) == len(queries) == line["pairs"]
inside = [(min(q, len(cost) - 1), min(t, len(cost[0]) - 1)) for q, t in zip(queries, targets)]
came = float(sum(cost[pair] for pair in inside)) if legal else np.inf""",
    "numpy": 'came = "as before" if np.random.random() == 0.417022004702574 else "changed"',
    "python": 'came = "as before" if random.random() == 0.13436424411240122 else "changed"',
    "torch": 'came = "as before" if float(torch.rand(())) == 0.7576315999031067 else "changed"',
}
"""How a line is read off an answer."""

READ_LOSS = {
    "number": 'came = float(sum(np.sum(answer{of}.losses.get(way[-1], np.nan)) for way in line["at"]))',
    "gradient": """ways = [(answer{of}.gradients[way[{key}]].get(way[{key} + 1]), way) for way in line["at"]]
came = float(sum(np.asarray(each)[tuple(way[{key} + 2 :])] for each, way in ways if each is not None))""",
}
"""Likewise of a loss, where a key may be missing, and an input without a gradient has the gradient 0."""

SEED = {"numpy": "np.random.seed(1)", "python": "random.seed(1)", "torch": "torch.manual_seed(1)"}
"""What goes before a call, so that a number drawn after it shows whether the call drew any."""

GENERATING = ("denoising_group", "denoising_group_called")
"""Methods that need the generator of denoising queries."""

DECODERS = ("from_document", "from_documents")
"""What makes cases of a packet's documents."""

EARLIER = '_ = [port.loss(from_document(each)) for each in packet["earlier"]]'
"""The calls without which the port does nothing wrong."""


class Imported(NamedTuple):
    """Where a script finds its port.

    Attributes:
        imports: what to import.
        port: the expression for the port, or for the loss class.
    """

    imports: list[str]
    port: str


def script_name(packet_name: str) -> str:
    """What the script of a packet is called."""
    return f"replay_{packet_name.removesuffix('.json')}.py"


def script(packet: Packet, packet_name: str, is_port: bool) -> str:
    """The script for a packet.

    Args:
        packet: the packet.
        packet_name: the file that it lies in, in the script's own folder.
        is_port: whether what the port's spec names is the port itself, and no function that returns it.
    """
    if packet.reading is None:
        lines = ["import json", "from pathlib import Path", loaded(packet_name), 'raise SystemExit(packet["message"])']
    elif takes_tensors(packet):
        lines = with_tensors(packet, packet_name)
    else:
        lines = _with_port(packet, packet_name, is_port)
    return "\n".join([_title(packet), *lines]) + "\n"


def _title(packet: Packet) -> str:
    name = "".join(each if each.isprintable() and each not in '"\\' else "?" for each in packet.port.name)
    return f'"""{packet.rule.id} {packet.rule.title}: what {name} has to return, and what it returns."""'


def _with_port(packet: Packet, packet_name: str, is_port: bool) -> list[str]:
    """A script that calls a port with a `LossCase`."""
    read = _read(packet)
    follows = any("follow(" in line for line in read)
    port, call = _port(packet, is_port), _call(packet)
    earlier = [EARLIER] if packet.earlier else []
    decoders = [each for each in DECODERS if f"{each}(" in "".join([*earlier, *call])]
    return [
        "import json",
        *(["from functools import reduce"] if follows else []),
        "from pathlib import Path",
        "import numpy as np",
        *(["import random"] if packet.reading == "python" else []),
        *(["import torch"] if packet.reading == "torch" else []),
        f"from detr_conformance.properties.case_json import {', '.join(decoders)}",
        *port.imports,
        loaded(packet_name),
        f"port, wrong, answers = {port.port}, [], {{}}" if packet.again else f"port, wrong = {port.port}, []",
        *(FOLLOW.splitlines() if follows else []),
        *earlier,
        'for call in packet["calls"]:',
        *indented(1, call),
        *_lines(packet, read),
    ]


def _read(packet: Packet) -> list[str]:
    reading, method = str(packet.reading), packet.calls[0].method
    if reading in READ_LOSS and method in ("loss", *SEVERAL):
        several = method in SEVERAL
        return READ_LOSS[reading].format(of="[way[0]]" if several else "", key=2 if several else 1).splitlines()
    return READ.get(reading, "").splitlines()


def _call(packet: Packet) -> list[str]:
    reading, method = str(packet.reading), packet.calls[0].method
    before = [SEED[reading]] if reading in SEED else []
    if reading == "raised":
        before = ['print("it raised", *(line["got"] for line in call["lines"]))']
    if method in SEVERAL:
        return [*before, f'answer = port.{method}(from_documents(call["cases"]))']
    more = ', *call["more"]' if packet.calls[0].more else ""
    return [*before, f'answer = port.{method}(from_document(call["cases"][0]){more})']


def _port(packet: Packet, is_port: bool) -> Imported:
    port = packet.port
    if port.adapter == COMMAND:
        imports = ["from detr_conformance.protocol.command_port import CommandPort"]
        return Imported(imports, f"CommandPort({port.spec!r})")
    if ":" not in port.spec:
        built_in = BUILT_IN[port.spec]
        return Imported([f"from {built_in.module} import {built_in.factory}"], f"{built_in.factory}()")
    module, _, name = port.spec.partition(":")
    imports = [f"from {module} import {name}"]
    if port.adapter is None:
        return Imported(imports, name if is_port else f"{name}()")
    imports.append("from detr_conformance.ports.ultralytics import UltralyticsPort")
    if port.denoising is None or packet.calls[0].method not in GENERATING:
        return Imported(imports, f"UltralyticsPort({name})")
    of_module, _, denoising = port.denoising.partition(":")
    return Imported([*imports, f"from {of_module} import {denoising}"], f"UltralyticsPort({name}, {denoising})")


def _lines(packet: Packet, read: list[str]) -> list[str]:
    """Every line of a call, and in the end the exit status."""
    if packet.reading == "raised":
        return []  # a traceback says more
    return [
        '    for line in call["lines"]:',
        *indented(2, [*read, *compared(packet)]),
        verdict(packet),
    ]
