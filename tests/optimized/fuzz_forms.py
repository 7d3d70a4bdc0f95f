"""Changes of the form that leave a call good: dtypes, layouts in memory, containers, contexts."""

from __future__ import annotations

from collections import UserDict, UserList
from types import MappingProxyType

import numpy as np
import torch

from .fuzz_calls import BATCH, META, Call

PREDICTIONS = ("pred_bboxes", "pred_scores", "dn_bboxes", "dn_scores", "pred", "pred_score")
FLOATS = (*PREDICTIONS, "bboxes", "gt_bboxes", "costs", "box1", "box2", "gt_score", "gt_scores", "label", "class_embed")
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
INTEGERS = (torch.int8, torch.int16, torch.int32, torch.uint8, torch.uint16, torch.uint32, torch.uint64)
CONTEXTS = ("no_grad", "inference", "autocast", "autocast to float16", "float64 by default")


def floats_of(call: Call) -> list[str]:
    return [name for name in FLOATS if isinstance(call.arguments.get(name), torch.Tensor)]


def predictions_of(call: Call) -> list[str]:
    return [name for name in floats_of(call) if name in PREDICTIONS]


def each_of_another_dtype(draw, call):
    _convert(call, lambda: draw.choice(DTYPES))


def all_of_one_dtype(draw, call):
    dtype = draw.choice(DTYPES)
    _convert(call, lambda: dtype)


def _convert(call, dtype):
    """By way of float32: then whoever reads the numbers in float32 reads the same."""
    for name in floats_of(call):
        call.arguments[name] = call.arguments[name].float().to(dtype())
    if "gt_of_images" in call.arguments:
        call.arguments["gt_of_images"] = [each.float().to(dtype()) for each in call.arguments["gt_of_images"]]


def _between(tensor):
    """Every second entry of a larger tensor, from the second on."""
    larger = torch.full([2 * size + 1 for size in tensor.shape], torch.nan, dtype=tensor.dtype)
    inside = larger[tuple(slice(1, 2 * size + 1, 2) for size in tensor.shape)]
    return inside.copy_(tensor)


def _reversed_in_memory(tensor):
    axes = list(range(tensor.dim()))[::-1]
    return tensor.permute(axes).contiguous().permute(axes)


def _negated_view(tensor):
    """The imaginary part of a conjugate: a view whose sign is stored apart."""
    return torch.complex(tensor, -tensor).conj().imag if tensor.dtype in DTYPES[2:] else tensor


def _leaf(tensor):
    return tensor.clone().requires_grad_()


def _expanded(tensor):
    """The first entry of the first axis, again and again, without a copy."""
    return tensor[:1].expand(tensor.shape) if tensor.dim() else tensor


def layouts(draw, call):
    for name in floats_of(call):
        if draw.flip():
            layout = draw.choice([_between, _reversed_in_memory, _negated_view, _leaf, torch.nn.Parameter])
            call.arguments[name] = layout(call.arguments[name])


def expanded(draw, call):
    names = predictions_of(call)
    if not names:
        return False
    name = draw.choice(names)
    call.arguments[name] = _expanded(call.arguments[name])
    return True


def labels_of_another_type(draw, call):
    if "cls" not in call.arguments:
        return False
    labels = call.arguments["cls"]
    dtypes = INTEGERS if len(labels) else (*INTEGERS, torch.float32, torch.bool)
    call.arguments["cls"] = labels.to(draw.choice(dtypes))
    return True


COUNTS = (
    tuple,
    UserList,
    torch.Size,
    bytearray,
    lambda counts: list(np.array(counts, np.uint8)),
    lambda counts: tuple(np.array(counts, np.int64)),
)


def counts_in_another_container(draw, call):
    if "gt_groups" not in call.arguments:
        return False
    call.arguments["gt_groups"] = draw.choice(COUNTS)(call.arguments["gt_groups"])
    return True


def _row(indices):
    """As valid calls have it, whatever an earlier change made of it."""
    return torch.tensor([int(index) for index in indices], dtype=torch.int64)


def _locked(row):
    array = row.numpy().copy()
    array.setflags(write=False)
    return array


ROWS = (
    torch.Tensor.tolist,
    list,  # of tensors without an axis
    lambda row: tuple(row.tolist()),
    lambda row: list(row.numpy()),
    lambda row: row.int(),
    lambda row: row.to(torch.uint8),
    lambda row: row.numpy().astype(np.int16),
    lambda row: row.numpy().astype(">u4"),
    lambda row: row.flip(0).numpy()[::-1],
    lambda row: torch.stack([row, row], 1)[:, 0],
    _locked,
)


def rows_in_another_container(draw, call):
    names = [name for name in ("dn_pos_idx", "dn_gt_idx") if call.arguments.get(name) is not None]
    for name in names:
        call.arguments[name] = draw.choice([list, tuple])(draw.choice(ROWS)(_row(row)) for row in call.arguments[name])
    if call.arguments.get("match_indices") is not None:
        pairs = [[draw.choice(ROWS)(_row(row)) for row in pair] for pair in call.arguments["match_indices"]]
        call.arguments["match_indices"] = draw.choice([list, tuple])(draw.choice([list, tuple])(pair) for pair in pairs)
        names.append("match_indices")
    return bool(names)


def other_mappings(draw, call):
    gains = [name for name in ("loss_gain", "cost_gain") if call.options.get(name)]
    for name in gains:
        call.options[name] = draw.choice([MappingProxyType, UserDict])(call.options[name])
    changed = [_other_mapping(draw, call, *each) for each in (("batch", BATCH), ("dn_meta", META))]
    return bool(gains) or any(changed)


def _other_mapping(draw, call, name, keys):
    """Put the entries, which the call's arguments are otherwise built from, into a mapping now."""
    entries = {key: call.arguments[key] for key in keys if key in call.arguments}
    if not entries or call.surface not in ("loss", "detr", "generator"):
        return False
    for key in entries:
        del call.arguments[key]
    kinds = (MappingProxyType, UserDict, lambda mapping: mapping | {"img": None, 5: "five", "batch_idx": None})
    call.arguments[name] = draw.choice(kinds)(entries)
    return True


def in_a_context(draw, call):
    call.context = draw.choice(CONTEXTS)


FORMS = (
    each_of_another_dtype, all_of_one_dtype, layouts, expanded, labels_of_another_type, counts_in_another_container,
    rows_in_another_container, other_mappings, in_a_context,
)  # fmt: skip
