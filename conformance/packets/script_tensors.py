"""Scripts that call a loss class with tensors, as Ultralytics' trainer does, and import nothing of ours."""

from __future__ import annotations

from detr_conformance.packets.packet import Packet
from detr_conformance.packets.script_lines import compared, indented, loaded, verdict

ULTRALYTICS = "ultralytics.models.utils.loss:RTDETRDetectionLoss"
"""What the built-in port of that name calls."""

READ_TENSORS = {
    "number": 'came = losses[key].item() if key in losses else float("nan")',
    # The empty sum connects a loss that does not depend on this input.
    "gradient": "came = float(torch.autograd.grad(losses[key] + given[by].flatten()[:0].sum(), given[by], "
    "retain_graph=True)[0][tuple(entry)])",
}
"""Likewise of the tensors of a loss class."""

LINES_OF_TENSORS = {
    "number": '    for line, (_, key) in ((line, line["at"][0]) for line in call["lines"]):',
    "gradient": '    for line, (_, key, by, *entry) in ((line, line["at"][0]) for line in call["lines"]):',
}

DECODE = (
    'decode = lambda tree: tree if "values" not in tree else torch.tensor('
    '[*map(float.fromhex, tree["values"])], dtype=torch.float64).reshape(tree["shape"])'
)

GIVEN = (
    'given = {name: case[name].to(getattr(torch, case["dtype"])).requires_grad_() '
    'for name in ("pred_bboxes", "pred_scores")}'
)
GIVEN_DENOISING = (
    'given |= {f"dn_{name}": dn[name].to(getattr(torch, case["dtype"])).requires_grad_() '
    'for name in ("bboxes", "scores") if dn}'
)
PAIRS = (
    'pairs = {f"dn_{name}": [torch.tensor(each).long() for each in dn[name]] for name in ("pos_idx", "gt_idx") if dn}'
)
BATCH = (
    'batch = {"cls": torch.tensor(case["gt_cls"]).long(), "bboxes": case["gt_bboxes"].float(), '
    '"gt_groups": case["gt_groups"]}'
)


def takes_tensors(packet: Packet) -> bool:
    """Whether the port is a class that can be called without anything of ours."""
    adapted = packet.port.adapter == "ultralytics" or packet.port.spec == "ultralytics"
    calls = all(call.method == "loss" and call.options is not None for call in packet.calls)
    sums = any(len(line.at) > 1 for call in packet.calls for line in call.lines)
    return adapted and calls and not sums and not (packet.earlier or packet.again) and packet.reading in READ_TENSORS


def with_tensors(packet: Packet, packet_name: str) -> list[str]:
    """A script that calls a loss class as Ultralytics' trainer does."""
    reading = str(packet.reading)
    spec = ULTRALYTICS if packet.port.spec == "ultralytics" else packet.port.spec
    module, _, name = spec.partition(":")
    denoising = any(call.cases[0]["denoising"] is not None for call in packet.calls)
    more = ""
    if denoising:
        more = ', given.get("dn_bboxes"), given.get("dn_scores"), dn and {"dn_num_group": dn["num_group"], **pairs}'
    call = [
        'case, dn = call["cases"][0], call["cases"][0]["denoising"]',
        GIVEN,
        *([GIVEN_DENOISING, PAIRS] if denoising else []),
        BATCH,
        f'losses = {name}(**call["options"])((given["pred_bboxes"], given["pred_scores"]), batch{more})',
    ]
    return [
        "import json",
        "from pathlib import Path",
        "import torch",
        f"from {module} import {name}",
        DECODE,
        loaded(packet_name, ", object_hook=decode", "wrong"),
        'for call in packet["calls"]:',
        *indented(1, call),
        LINES_OF_TENSORS[reading],
        *indented(2, [READ_TENSORS[reading], *compared(packet)]),
        verdict(packet),
    ]
