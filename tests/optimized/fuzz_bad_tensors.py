"""Changes of tensors that make a call bad: types, shapes, devices and values."""

from __future__ import annotations

import numpy as np
import torch

from .fuzz_bad_names import named, names_of
from .fuzz_forms import FLOATS

INTEGERS = ("cls", "targets", "sizes")
ANY_NUMBERS = ("label", "gt_score")

TYPES = {
    "none": lambda _: None,
    "a list": torch.Tensor.tolist,
    "an array": lambda tensor: np.ones(tensor.shape),
    "text": lambda _: "text",
    "a number": lambda _: 5,
    "an object": lambda _: object(),
    "complex": lambda tensor: tensor.to(torch.complex64),
    "sparse": lambda tensor: (tensor if tensor.is_floating_point() else tensor.long()).to_sparse(),
}
NO_FLOATS = {"integers": torch.Tensor.int, "booleans": torch.Tensor.bool, "bytes": lambda t: t.to(torch.float8_e5m2)}
NO_INTEGERS = {"floats": torch.Tensor.float, "booleans": torch.Tensor.bool}


def wrong_type(draw, call):
    slots = tensors_of(call, (*FLOATS, *INTEGERS))
    if not slots:
        return None
    slot = draw.choice(slots)
    tensor = call.arguments[slot].detach()
    kinds = TYPES | (NO_INTEGERS if slot in INTEGERS else {} if slot in ANY_NUMBERS else NO_FLOATS)
    if slot in ("bboxes", "gt_bboxes"):
        kinds = {name: change for name, change in kinds.items() if name != "integers"}
    kind = draw.choice(list(kinds))
    # Of labels or sizes that are none the dtype says nothing.
    says_nothing = slot in INTEGERS and not tensor.numel() and kind in (*NO_INTEGERS, "complex")
    if says_nothing or (slot == "sizes" and kind == "none"):
        return None
    call.arguments[slot] = kinds[kind](tensor)
    call.notes.append(f"{slot} is {kind}")
    return named([slot])


def tensors_of(call, names):
    """Those of the arguments that are tensors."""
    return [name for name in names if isinstance(call.arguments.get(name), torch.Tensor)]


def wrong_shape(draw, call):
    loose = ("costs", "box1", "box2", "class_embed")
    slots = [name for name in tensors_of(call, (*FLOATS, *INTEGERS)) if name not in loose]
    if not slots:
        return None
    slot = draw.choice(slots)
    before = call.arguments[slot].detach()
    after = _changed_shape(draw, before)
    if after.shape == before.shape or _is_open(call.surface, slot, before.shape, after.shape):
        return None
    call.arguments[slot] = after
    call.notes.append(f"{slot} has shape {tuple(after.shape)}")
    return names_of(call, slot)


def _changed_shape(draw, tensor):
    axis, change = draw.randrange(max(1, tensor.dim())), draw.choice(["more", "less", "none", "unsqueeze", "first"])
    size = tensor.shape[axis] if tensor.dim() else 0
    if change == "unsqueeze":
        return tensor.unsqueeze(draw.randint(0, tensor.dim()))
    if not size or (change == "less" and size == 1):
        return tensor
    if change == "first":
        return tensor.select(axis, 0)
    if change == "more":
        return torch.cat([tensor, tensor.narrow(axis, size - 1, 1)], dim=axis)
    return tensor.narrow(axis, 0, size - 1 if change == "less" else 0)


def _is_open(surface, slot, before, after):
    """Whether they differ in a size that may be any: the matcher's classes, and the queries that others choose from.

    Or whether they are no boxes at all, without the axis of coordinates.
    """
    if slot == "bboxes" and after == (0,) and surface != "boxes":
        return True
    axis = {("matcher", "pred_scores"): -1, ("assigned", "pred_bboxes"): -2}.get((surface, slot))
    if axis is None or len(before) != len(after):
        return False
    return all(before[each] == after[each] for each in range(-len(before), 0) if each != axis)


def wrong_loose_shape(draw, call):
    """Of what has to fit nothing but itself, or broadcasts."""
    shapes = {"costs": [(3, 3), (1, 1, 3, 3), ()], "class_embed": [(9,), (1, 9, 2), (0, 3), ()]}
    shapes |= {"box1": [(3, 5), (4, 3), (), (0,), (7, 9, 3, 4)], "box2": [(3, 5), (2, 0), (), (7, 9, 3, 4)]}
    slots = tensors_of(call, shapes)
    if not slots:
        return None
    slot = draw.choice(slots)
    shape = draw.choice(shapes[slot])
    if slot in ("box1", "box2") and shape[-1:] == (4,):
        call.arguments["box2" if slot == "box1" else "box1"] = torch.ones(2, 4)
    call.arguments[slot] = torch.ones(shape)
    call.notes.append(f"{slot} has shape {shape}")
    return names_of(call, slot)


def no_predictions(draw, call):
    """Zero layers, images, queries or classes."""
    pairs = [("pred_bboxes", "pred_scores"), ("dn_bboxes", "dn_scores"), ("pred", "label")]
    pairs = [pair for pair in pairs if len(tensors_of(call, pair)) == 2]
    if not pairs:
        return None
    pair = draw.choice(pairs)
    axis = draw.randrange(call.arguments[pair[0]].dim() - (pair[0] != "pred"))
    for name in pair:
        call.arguments[name] = call.arguments[name].detach().narrow(axis, 0, 0)
    call.notes.append(f"axis {axis} of {pair} is empty")
    return names_of(call, pair[0])


def on_another_device(draw, call):
    tensors = tensors_of(call, call.arguments)
    if len(tensors) < 2:
        return None
    slot = draw.choice(tensors)
    call.arguments[slot] = call.arguments[slot].detach().to("meta")
    call.notes.append(f"{slot} is on meta")
    return named(tensors)


def bad_label(draw, call):
    if not tensors_of(call, ["cls"]) or not call.arguments["cls"].numel():
        return None
    classes = 4  # never more, see `fuzz_inputs`
    value = draw.choice([-1, classes, 2**31, 2**62, -(2**63), classes + 255])
    labels = call.arguments["cls"].long().clone()
    labels[draw.randrange(len(labels))] = value
    # In 64 bits without a sign -1 is the largest number.
    dtypes = [torch.int64, torch.int64, torch.uint64, *([torch.uint32] if 0 <= value < 2**32 else [])]
    call.arguments["cls"] = labels.to(draw.choice(dtypes))
    call.notes.append(f"a label is {value}")
    return named(["cls"])


def bad_target(draw, call):
    if not tensors_of(call, ["bboxes"]) or not call.arguments["bboxes"].numel():
        return None
    call.arguments["bboxes"] = boxes = call.arguments["bboxes"].detach().clone(memory_format=torch.contiguous_format)
    place, bad = draw.randrange(boxes.numel()), [torch.nan, torch.inf, -torch.inf]
    boxes.view(-1)[place] = draw.choice([*bad, -0.1] if place % 4 >= 2 else bad)
    return named(["bboxes"])


BAD_TENSORS = (
    wrong_type, wrong_type, wrong_shape, wrong_shape, wrong_loose_shape, no_predictions, on_another_device, bad_label,
    bad_target,
)  # fmt: skip
