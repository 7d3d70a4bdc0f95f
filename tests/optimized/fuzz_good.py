"""Changes that leave a call good: other layouts, types, containers and extreme numbers."""

from __future__ import annotations

from collections import UserDict, UserList
from fractions import Fraction
from types import MappingProxyType

import numpy as np
import torch

from .fuzz_calls import BATCH, META, Call, Draw

PREDICTIONS = ("pred_bboxes", "pred_scores", "dn_bboxes", "dn_scores", "pred", "pred_score")
FLOATS = (*PREDICTIONS, "bboxes", "gt_bboxes", "costs", "box1", "box2", "gt_score", "gt_scores", "label", "class_embed")
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
INTEGERS = (torch.int8, torch.int16, torch.int32, torch.uint8, torch.uint16, torch.uint32, torch.uint64)
LARGEST_HALF = 65504.0
CONTEXTS = ("no_grad", "inference", "autocast", "float64 by default")


def floats_of(call: Call) -> list[str]:
    return [name for name in FLOATS if isinstance(call.arguments.get(name), torch.Tensor)]


def predictions_of(call: Call) -> list[str]:
    return [name for name in floats_of(call) if name in PREDICTIONS]


def _each_of_another_dtype(draw, call):
    for name in floats_of(call):
        # In float32 first: then whoever reads the numbers in float32 reads the same.
        call.arguments[name] = call.arguments[name].float().to(draw.choice(DTYPES))


def _all_of_one_dtype(draw, call):
    dtype = draw.choice(DTYPES)
    for name in floats_of(call):
        call.arguments[name] = call.arguments[name].float().to(dtype)


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


LAYOUTS = (_between, _reversed_in_memory, _negated_view, lambda tensor: tensor.clone().requires_grad_())
LAYOUTS += (torch.nn.Parameter, lambda tensor: tensor[:1].expand(tensor.shape) if tensor.dim() else tensor)


def _layouts(draw, call):
    for name in floats_of(call):
        if draw.flip():
            call.arguments[name] = draw.choice(LAYOUTS[:5])(call.arguments[name])


def _expanded(draw, call):
    names = predictions_of(call)
    if not names:
        return False
    name = draw.choice(names)
    call.arguments[name] = LAYOUTS[5](call.arguments[name])
    return True


def _labels_of_another_type(draw, call):
    if "cls" not in call.arguments:
        return False
    empty = not len(call.arguments["cls"])
    call.arguments["cls"] = call.arguments["cls"].to(
        draw.choice((*INTEGERS, torch.float32, torch.bool) if empty else INTEGERS)
    )
    return True


COUNTS = (tuple, UserList, torch.Size, bytearray, lambda counts: np.array(counts, np.int8).tolist())
COUNTS += (lambda counts: list(np.array(counts, np.uint8)), lambda counts: tuple(np.array(counts, np.int64)))


def _counts_in_another_container(draw, call):
    if "gt_groups" not in call.arguments:
        return False
    call.arguments["gt_groups"] = draw.choice(COUNTS)(call.arguments["gt_groups"])
    return True


def _locked(row):
    array = row.numpy().copy()
    array.setflags(write=False)
    return array


def _row(indices):
    """As valid calls have it, whatever an earlier change made of it."""
    return torch.tensor([int(index) for index in indices], dtype=torch.int64)


ROWS = (torch.Tensor.tolist, lambda row: tuple(row.tolist()), lambda row: row.to(torch.uint8), lambda row: row.int())
ROWS += (lambda row: row.numpy().astype(np.int16), _locked, lambda row: row.flip(0).numpy()[::-1], lambda row: row[::1])
ROWS += (lambda row: list(row.numpy()), lambda row: list(row), lambda row: torch.stack([row, row], 1)[:, 0])


def _rows_in_another_container(draw, call):
    names = [name for name in ("dn_pos_idx", "dn_gt_idx") if call.arguments.get(name) is not None]
    for name in names:
        call.arguments[name] = draw.choice([list, tuple])(draw.choice(ROWS)(_row(row)) for row in call.arguments[name])
    if call.arguments.get("match_indices") is not None:
        pairs = [[draw.choice(ROWS)(_row(row)) for row in pair] for pair in call.arguments["match_indices"]]
        call.arguments["match_indices"] = draw.choice([list, tuple])(draw.choice([list, tuple])(pair) for pair in pairs)
        names.append("match_indices")
    return bool(names)


def _fraction(number):
    return Fraction(float(number))


def _half(number):
    return np.float16(number) if abs(float(number)) < LARGEST_HALF else np.float64(number)


def _other_numbers(draw, call):
    kinds = (np.float32, np.float64, float, _fraction, _half)
    names = [name for name in ("gamma", "alpha") if name in call.options]
    for name in names:
        call.options[name] = draw.choice(kinds)(call.options[name])
    for gains in (call.options.get(name) for name in ("loss_gain", "cost_gain")):
        for term in gains if isinstance(gains, dict) else ():
            gains[term] = draw.choice((*kinds, int))(gains[term])
    return bool(call.options)


def _other_mappings(draw, call):
    kinds = (MappingProxyType, UserDict, lambda mapping: mapping | {"img": None, 5: "five", "batch_idx": None})
    parts = [name for name in ("loss_gain", "cost_gain") if call.options.get(name)]
    for name in parts:
        call.options[name] = draw.choice(kinds[:2])(call.options[name])
    for name, keys in (("batch", BATCH), ("dn_meta", META)):
        entries = {key: call.arguments.pop(key) for key in keys if key in call.arguments}
        if entries and call.surface in ("loss", "detr", "generator"):
            call.arguments[name] = draw.choice(kinds)(entries)
            parts.append(name)
        else:
            call.arguments |= entries
    return bool(parts)


def _in_a_context(draw, call):
    call.context = draw.choice(CONTEXTS)


# Numbers: for each what it is, whether the arithmetic copes with it, and whether it is finite.
NUMBERS = {
    "0": (0.0, True), "1": (1.0, True), "tiny": (1e-30, True), "denormal": (1e-44, True), "negative": (-0.3, True),
    "saturating": (90.0, True), "saturating below": (-90.0, True), "large": (1e3, True), "largest half": (LARGEST_HALF, True),
    "huge": (1e20, False), "huger": (-3e38, False), "hugest": (1.7e308, False),
    "nan": (torch.nan, True), "inf": (torch.inf, True), "-inf": (-torch.inf, True),
}  # fmt: skip


def _special_numbers(draw, call):
    names = predictions_of(call) + [name for name in ("costs", "box1", "box2") if name in call.arguments]
    names = [name for name in names if call.arguments[name].numel()]
    if not names:
        return False
    name, which = draw.choice(names), draw.choice(list(NUMBERS))
    number, ordinary = NUMBERS[which]
    tensor = call.arguments[name].detach().clone(memory_format=torch.contiguous_format)
    number = (
        max(-torch.finfo(tensor.dtype).max, min(number, torch.finfo(tensor.dtype).max))
        if abs(number) < torch.inf
        else number
    )
    for _ in range(draw.choice([1, 1, 3, 100])):
        tensor.view(-1)[draw.randrange(tensor.numel())] = number
    call.arguments[name] = tensor
    call.ordinary &= ordinary
    call.finite &= abs(number) < torch.inf
    call.notes.append(f"{name} gets {which}")
    return True


def _degenerate_targets(draw, call):
    names = [name for name in ("bboxes", "gt_bboxes") if name in call.arguments and len(call.arguments[name])]
    for name in names:
        boxes = call.arguments[name].detach().clone()
        boxes[draw.randrange(len(boxes)), 2 + draw.randrange(2)] = draw.choice([0.0, 1e-30, -0.1, 0.0])
        call.arguments[name] = boxes
    return bool(names)


def _all_alike(draw, call):
    """Ties everywhere."""
    for name in predictions_of(call):
        call.arguments[name] = torch.full_like(call.arguments[name], draw.choice([0.0, 0.25, 0.5]))
    return bool(predictions_of(call))


def _huge_gains(draw, call):
    gains = call.options.get("loss_gain") or call.options.get("cost_gain")
    if not isinstance(gains, dict):
        return False
    gains[draw.choice(list(gains))] = draw.choice([1e18, -1e18, 10**17, 1e-300, np.float32(1e10)])
    call.ordinary = False
    return True


def _extreme_exponents(draw, call):
    if "gamma" not in call.options:
        return False
    call.options[draw.choice(["gamma", "alpha"])] = draw.choice([1e-30, 1e3, 1e18, 10**18, 5e-324, Fraction(1, 3)])
    call.ordinary = False
    return True


def _options_that_do_not_matter(draw, call):
    change = {"num_sample_points": draw.choice([-1, None])} if call.surface == "matcher" else {}
    if "nc" in call.options and not call.options.get("use_uni_match"):
        change = {"uni_match_ind": draw.choice([7, 10**30])}
    if "use_fl" in call.options:
        change |= {"validate": draw.flip(), "backend": draw.choice([None, "torch"])}
    call.options |= change
    return bool(change)


GOOD = {each.__name__.strip("_").replace("_", " "): each for each in (
    _each_of_another_dtype, _all_of_one_dtype, _layouts, _expanded, _labels_of_another_type,
    _counts_in_another_container, _rows_in_another_container, _other_numbers, _other_mappings, _in_a_context,
    _special_numbers, _degenerate_targets, _all_alike, _huge_gains, _extreme_exponents, _options_that_do_not_matter,
)}  # fmt: skip


def change(draw: Draw, call: Call) -> None:
    """Apply one change, if it applies to this call."""
    name = draw.choice(list(GOOD))
    if GOOD[name](draw, call) is not False:
        call.notes.append(name)


def with_gradients(draw: Draw, call: Call) -> None:
    """Let some of the predictions require a gradient, whatever their layout."""
    for name in predictions_of(call):
        call.arguments[name] = call.arguments[name].detach().requires_grad_(draw.flip(0.6))
