"""Changes that make a call bad, and what the error may then name."""

from __future__ import annotations

import math
from dataclasses import replace
from decimal import Decimal

import numpy as np
import torch

from .fuzz_calls import Call, Draw
from .fuzz_good import FLOATS

NAMES = {"bboxes": "gt_bboxes", "cls": "gt_cls", "gt_of_images": "gt_bboxes", "gt_groups": "gt_groups"}
TARGETS = ("bboxes", "cls", "gt_groups")
DENOISING = ("dn_bboxes", "dn_scores", "dn_pos_idx", "dn_num_group", "dn_gt_idx")
GROUPS = (TARGETS, DENOISING, ("pred_bboxes", "pred_scores", "targets", "gt_scores", "gt_bboxes", "gt_of_images"))
GROUPS += (("match_indices",), ("box1", "box2"), ("costs", "sizes"), ("pred", "label"), ("gt_score", "pred_score"))

NOT_A_NUMBER = ("2", None, 1j, [1.0], torch.ones(2), Decimal(1), object(), {})
NOT_FINITE = (math.nan, math.inf, -math.inf, 10**400, np.float32("nan"), 1e19, -1e300, 10**30)
NOT_AN_INTEGER = (1.5, True, None, "1", 2.0, [1], torch.tensor(1), np.float64(1), 1j, object())
JUNK = (5, 1.5, "ab", object(), {"a": 0, "b": 1}, {1, 2}, True)
ROWS = (None, 5, 1.5, "ab", [0.5], [True], [[0]], [10**30], [None], ["a"], {0: 0}, object(), torch.tensor(0))
ROWS += (
    torch.tensor([0.5]),
    torch.tensor([1j]),
    torch.tensor([True]),
    np.array([None]),
    np.array(["a"]),
    [[0], [0, 1]],
)
ROWS += (torch.zeros((1, 1), dtype=torch.int64), torch.tensor([0]).to_sparse())

TYPES = {
    "none": lambda tensor: None,
    "a list": torch.Tensor.tolist,
    "an array": lambda tensor: np.ones(tensor.shape),
    "text": lambda tensor: "text",
    "a number": lambda tensor: 5,
    "an object": lambda tensor: object(),
    "complex": lambda tensor: tensor.to(torch.complex64),
    "sparse": lambda tensor: (tensor if tensor.is_floating_point() else tensor.long()).to_sparse(),
}
NO_FLOATS = {"integers": torch.Tensor.int, "booleans": torch.Tensor.bool, "bytes": lambda t: t.to(torch.float8_e5m2)}
NO_INTEGERS = {"floats": torch.Tensor.float, "booleans": torch.Tensor.bool}


def _tensors(call, names):
    """Those of the arguments that are tensors still."""
    given = {name: call.arguments.get(name) for name in names}
    return [
        name for name, each in given.items() if isinstance(each, torch.Tensor) and each.is_cpu and not each.is_sparse
    ]


def _names(call, slot):
    """What an error about a slot may name: any of those that it must fit."""
    group = next((group for group in GROUPS if slot in group), (slot,))
    extra = ("nc",) if "nc" in call.options else ()
    return (*(NAMES.get(name, name) for name in group), *extra)


def _wrong_type(draw, call):
    slots = _tensors(call, (*FLOATS, "cls", "targets", "sizes"))
    if not slots:
        return None
    slot = draw.choice(slots)
    tensor = call.arguments[slot].detach()
    own = NO_INTEGERS if slot in ("cls", "targets", "sizes") else NO_FLOATS
    own = own if slot not in ("label", "gt_score", "gt_scores") else {}  # any real numbers will do
    kind = draw.choice(list(TYPES | own))
    if (slot == "sizes" and kind == "none") or (slot == "cls" and not tensor.numel() and kind in (*own, "complex")):
        return None
    call.arguments[slot] = (TYPES | own)[kind](tensor)
    call.notes.append(f"{slot} is {kind}")
    return (NAMES.get(slot, slot),)


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


def _wrong_shape(draw, call):
    loose = ("costs", "box1", "box2", "class_embed")
    slots = [name for name in _tensors(call, (*FLOATS, "cls", "targets", "sizes")) if name not in loose]
    if not slots:
        return None
    slot = draw.choice(slots)
    before = call.arguments[slot].detach()
    after = _changed_shape(draw, before)
    if after.shape == before.shape or _is_shape_open(call, slot, before.shape, after.shape):
        return None
    call.arguments[slot] = after
    call.notes.append(f"{slot} has shape {tuple(after.shape)}")
    return _names(call, slot)


def _is_shape_open(call, slot, before, after):
    """Whether the shape fits too: the matcher takes any number of classes, the choice of boxes any of queries."""
    open_axis = {("matcher", "pred_scores"): -1, ("assigned", "pred_bboxes"): 1}.get((call.surface, slot))
    if open_axis is None or len(before) != len(after):
        return False
    return [size for axis, size in enumerate(before) if axis != open_axis % len(before)] == [
        size for axis, size in enumerate(after) if axis != open_axis % len(before)
    ]


def _wrong_loose_shape(draw, call):
    shapes = {"costs": [(3, 3), (1, 1, 3, 3), ()], "class_embed": [(9,), (1, 9, 2), (0, 3), ()]}
    shapes |= {"box1": [(3, 5), (4, 3), (), (0,), (7, 9, 3, 4)], "box2": [(3, 5), (2, 0), (), (7, 9, 3, 4)]}
    slots = _tensors(call, shapes)
    if not slots:
        return None
    slot = draw.choice(slots)
    shape = draw.choice(shapes[slot])
    if slot in ("box1", "box2") and shape[-1:] == (4,):
        call.arguments["box2" if slot == "box1" else "box1"] = torch.ones(2, 4)
    call.arguments[slot] = torch.ones(shape)
    call.notes.append(f"{slot} has shape {shape}")
    return _names(call, slot)


def _no_predictions(draw, call):
    """Zero layers, images, queries or classes."""
    pairs = [("pred_bboxes", "pred_scores"), ("dn_bboxes", "dn_scores"), ("pred", "label")]
    pairs = [pair for pair in pairs if len(_tensors(call, pair)) == 2]
    if not pairs:
        return None
    pair = draw.choice(pairs)
    axis = draw.randrange(call.arguments[pair[0]].dim() - (pair[0] != "pred"))
    for name in pair:
        call.arguments[name] = call.arguments[name].detach().narrow(axis, 0, 0)
    call.notes.append(f"axis {axis} of {pair} is empty")
    return _names(call, pair[0])


def _on_another_device(draw, call):
    tensors = _tensors(call, call.arguments)
    if len(tensors) < 2:
        return None
    slot = draw.choice(tensors)
    call.arguments[slot] = call.arguments[slot].detach().to("meta")
    call.notes.append(f"{slot} is on meta")
    return tuple(NAMES.get(name, name) for name in tensors)


def _bad_label(draw, call):
    if not _tensors(call, ["cls"]) or not call.arguments["cls"].numel():
        return None
    labels, classes = call.arguments["cls"], 4  # never more, see `fuzz_inputs`
    value = draw.choice([-1, classes, 2**31, 2**62, -(2**63), classes + 255])
    call.arguments["cls"] = labels = labels.long().clone()
    labels[draw.randrange(len(labels))] = value
    if 0 <= value < 2**62 and draw.flip():
        call.arguments["cls"] = labels.to(draw.choice([torch.uint32, torch.uint64]))
    call.notes.append(f"a label is {value}")
    return ("gt_cls",)


def _bad_target(draw, call):
    if not _tensors(call, ["bboxes"]) or not call.arguments["bboxes"].numel():
        return None
    call.arguments["bboxes"] = boxes = call.arguments["bboxes"].detach().clone(memory_format=torch.contiguous_format)
    boxes.view(-1)[draw.randrange(boxes.numel())] = draw.choice([torch.nan, torch.inf, -torch.inf])
    return ("gt_bboxes",)


def _bad_counts(draw, call):
    if not isinstance(call.arguments.get("gt_groups"), (list, tuple)):
        return None
    counts, at = [int(each) for each in call.arguments["gt_groups"]], draw.randrange(len(call.arguments["gt_groups"]))
    where = [counts[:at], counts[at + 1 :]]
    entries = [-1, -(10**30), 1.5, True, None, "1", torch.tensor(1), [1], np.float64(1), -np.int8(5)]
    wholes = [None, 5, "ab", {0: 1}, {1}, torch.tensor(counts), np.array(counts), iter(counts), b"\1", object()]
    if call.surface == "denoising indices":
        # There a list of rows in this place means the targets of a group.
        entries, wholes = entries[:2], wholes[:4]
    elif call.surface != "generator":
        wholes += [[*counts, 0], counts[:-1], []]
    if call.arguments.get("dn_gt_idx") is None:
        entries += [counts[at] + 1, 10**12, 2**63, 10**30, counts[at] - 1]
    value = draw.choice([*([*where[0], entry, *where[1]] for entry in entries), *wholes])
    call.arguments["gt_groups"] = value
    call.notes.append(f"gt_groups is {value!r}")
    return (*_names(call, "gt_groups"), *_names(call, "dn_pos_idx"))


def _rows_of(draw, rows, limit):
    """The rows with one of them bad: an index that is negative or, if there is a limit, beyond it; or no row at all."""
    rows = list(rows)
    at = draw.randrange(len(rows))
    if len(rows[at]) and draw.flip():
        bad = torch.tensor([int(index) for index in rows[at]])
        bad[draw.randrange(len(bad))] = draw.choice([-1, -(2**63)] + ([limit, 2**40] if limit is not None else []))
    else:
        bad = draw.choice(ROWS)
    return [*rows[:at], bad, *rows[at + 1 :]]


def _bad_denoising_indices(draw, call):
    slots = [name for name in ("dn_pos_idx", "dn_gt_idx") if isinstance(call.arguments.get(name), (list, tuple))]
    if not slots:
        return None
    slot = draw.choice(slots)
    rows = call.arguments[slot]
    if slot == "dn_gt_idx":
        limit = sum(call.flat()["gt_groups"])
    else:
        limit = None if call.surface == "denoising indices" else call.arguments["dn_bboxes"].shape[2]
    wholes = [*JUNK, [*rows, rows[-1]], rows[:-1], torch.tensor(3)] + [None] * (slot == "dn_pos_idx")
    call.arguments[slot] = draw.choice([_rows_of(draw, rows, limit)] * len(wholes) + wholes)
    call.notes.append(f"{slot} is {call.arguments[slot]!r}")
    return (*_names(call, slot), "gt_groups")


def _bad_matching(draw, call):
    matching = call.arguments.get("match_indices")
    if not isinstance(matching, (list, tuple)):
        return None
    pairs, at, side = list(matching), draw.randrange(len(matching)), draw.randrange(2)
    limits = [None, None]
    if call.surface != "index":
        of_images = call.arguments.get("gt_of_images")
        targets = len(call.flat()["cls"]) if of_images is None else len(of_images[at])
        limits = [call.arguments["pred_bboxes"].shape[-2], targets]
    pair = list(pairs[at])
    [pair[side]] = _rows_of(draw, [pair[side]], limits[side])
    longer = [[*pairs[at][0], 0], pairs[at][1]]
    other = draw.choice([pair] * 8 + [longer, None, 5, "ab", [], pairs[at][:1], [*pairs[at], []], {"a": 0, "b": 1}])
    wholes = [*JUNK] if call.surface == "index" else [*JUNK, [*pairs, pairs[-1]], [], None if of_images else 5]
    value = draw.choice([[*pairs[:at], other, *pairs[at + 1 :]]] * 2 * len(wholes) + wholes)
    call.arguments["match_indices"] = value
    call.notes.append(f"match_indices is {value!r}")
    return ("match_indices",)


def _missing_entry(draw, call):
    keys = {"loss": [*TARGETS, "dn_pos_idx", "dn_num_group"], "detr": TARGETS, "generator": TARGETS}
    keys = [key for key in keys.get(call.surface, ()) if key in call.arguments]
    if not keys:
        return None
    key = draw.choice(keys)
    del call.arguments[key]
    call.notes.append(f"no {key}")
    return (f"'{key}' is missing",)


def _no_mapping(draw, call):
    slots = {"loss": ["batch", "preds", "dn_meta"], "detr": ["batch"], "generator": ["batch"]}.get(call.surface)
    if not slots:
        return None
    slot = draw.choice(slots)
    if slot == "dn_meta" and not call.arguments["denoising"]:
        return None
    values = [5, "ab", [1, 2], (1,), {1, 2}, object(), torch.ones(2), torch.tensor(1.0)]
    if slot == "preds":
        values += [
            None,
            (),
            torch.ones(1, 2, 3, 4),
            (None, None),
            {"a": 1, "b": 2},
            iter(()),
            torch.ones(2).to_sparse(),
        ]
    call.arguments[slot] = value = draw.choice(
        values if slot != "batch" or call.surface == "generator" else [*values, None, {}]
    )
    call.notes.append(f"{slot} is {value!r}")
    names = {"preds": ("preds", "pred_bboxes", "pred_scores"), "batch": ("batch",), "dn_meta": ("dn_meta",)}
    return names[slot]


def _bad_count_of_groups(draw, call):
    if "dn_num_group" not in call.arguments:
        return None
    values = [*NOT_AN_INTEGER, 0, -1, -(10**30)]
    rows = call.arguments.get("dn_pos_idx")
    if isinstance(rows, (list, tuple)) and any(map(len, rows)):
        values += [10**12, 2**63, 10**30, call.arguments["dn_num_group"] + 1]
    call.arguments["dn_num_group"] = value = draw.choice(values)
    call.notes.append(f"dn_num_group is {value!r}")
    return ("dn_num_group", "dn_pos_idx")


def _bad_option(draw, call):
    values = {
        # Where there are no logits, there may be any number of classes.
        "nc": [*NOT_AN_INTEGER, 0, -1, *([] if call.surface == "boxes" else [10**30, 2**63])],
        "gamma": [*NOT_A_NUMBER, *NOT_FINITE, -0.5, -(10**400)],
        "alpha": [*NOT_A_NUMBER, *NOT_FINITE],
    }
    names = [name for name in values if name in call.options]
    if not names:
        return None
    name = draw.choice(names)
    call.options[name] = value = draw.choice(values[name])
    call.notes.append(f"{name} is {value!r}")
    return (name,)


def _bad_gains(draw, call):
    name = next((name for name in ("loss_gain", "cost_gain") if name in call.options), None)
    if name is None:
        return None
    good = {"class": 1.0, "bbox": 5.0, "giou": 2.0}
    term = draw.choice(list(good))
    wrong = [good | {term: value} for value in (*NOT_A_NUMBER, *NOT_FINITE)]
    missing = [{key: good[key] for key in good if key != term}] * 3
    call.options[name] = value = draw.choice(
        [*wrong, *missing, {}, 5, "abc", [1.0, 5.0, 2.0], [("class", 1.0)], {"class"}]
    )
    call.notes.append(f"{name} is {value!r}")
    return (name,)


def _bad_keyword(draw, call):
    values = {"backend": ["cuda", "", 5, "scipy", object(), torch]}
    if call.surface in ("loss", "detr", "layer", "auxiliary"):
        values |= {"process_group": [5, "gloo", object()], "uni_match_ind": [*NOT_AN_INTEGER, -1, -(10**30)]}
    elif call.surface == "matcher":
        values |= {"with_mask": [True, 1]}
    elif call.surface != "assignment":
        return None
    name = draw.choice(list(values))
    where = call.arguments if call.surface == "assignment" else call.options
    where[name] = value = draw.choice(values[name][:3] if call.surface == "assignment" else values[name])
    call.notes.append(f"{name} is {value!r}")
    return (name,)


def _no_layer_to_share(draw, call):
    shared = call.surface in ("loss", "detr", "auxiliary") and call.options["aux_loss"]
    layers = call.arguments["pred_bboxes"].shape[0] if shared else 0
    auxiliary = layers - (call.surface != "auxiliary")
    if auxiliary < 1 or call.arguments.get("match_indices") is not None:
        return None
    call.options |= {"use_uni_match": True, "uni_match_ind": draw.choice([auxiliary, 10**12, 2**63, 10**30])}
    call.notes.append("no layer to share")
    return ("uni_match_ind",)


def _bad_option_of_the_generator(draw, call):
    if call.surface != "generator":
        return None
    bad_numbers = [*NOT_A_NUMBER, *NOT_FINITE, -0.5]
    values = {
        "num_classes": [*NOT_AN_INTEGER, 0, -1, 99, 10**12, 10**30],
        "num_queries": [*NOT_AN_INTEGER, 0, -1],
        "num_dn": [*NOT_AN_INTEGER],
        "cls_noise_ratio": [*bad_numbers, 2.1],
        "box_noise_scale": bad_numbers,
        "generator": [5, "cpu", np.random.default_rng(0)],
    }
    if isinstance(call.arguments.get("gt_groups"), (list, tuple)) and any(call.arguments["gt_groups"]):
        values["num_queries"] += [10**12, 2**63, 10**30]
        values["num_dn"] += [10**12, 2**63, 10**30]
    name = draw.choice(list(values))
    call.arguments[name] = value = draw.choice(values[name])
    call.notes.append(f"{name} is {value!r}")
    return (name, "class_embed") if name == "num_classes" else (name,)


def _bad_argument_of_a_part(draw, call):
    """Of the arguments that no other surface has."""
    values = {
        "eps": [*NOT_A_NUMBER, *NOT_FINITE],
        "num_gts": [*NOT_A_NUMBER, *NOT_FINITE, -1],
        "targets": [-1, 99, 2**40],
        "sizes": [-1, 99, 2**40],
        "gt_of_images": [None, 5, "ab", [None], [], [torch.ones(2, 3)], [torch.ones(2, 4).int()], [[[0.5] * 4]]],
    }
    of_surface = {"iou": "eps", "class": draw.choice(["num_gts", "targets"]), "assigned": "gt_of_images"}
    name = of_surface.get(call.surface, "sizes")
    value = draw.choice(values[name])
    if name in ("targets", "sizes"):
        tensor = call.arguments.get(name)
        if tensor is None or not tensor.numel():
            return None
        tensor = call.arguments[name] = tensor.clone()
        tensor.view(-1)[draw.randrange(tensor.numel())] = value
    elif isinstance(value, list) and name == "gt_of_images":
        call.arguments[name] = value * (len(call.arguments[name]) if value else 1)
    else:
        call.arguments[name] = value
    call.notes.append(f"{name} is {value!r}")
    return (NAMES.get(name, name),)


BAD = (
    _wrong_type, _wrong_type, _wrong_shape, _wrong_shape, _wrong_loose_shape, _no_predictions, _on_another_device,
    _bad_label, _bad_target, _bad_counts, _bad_counts, _bad_denoising_indices, _bad_denoising_indices, _bad_matching,
    _missing_entry, _no_mapping, _bad_count_of_groups, _bad_option, _bad_gains, _bad_keyword, _no_layer_to_share,
    _bad_option_of_the_generator, _bad_option_of_the_generator, _bad_argument_of_a_part,
)  # fmt: skip


def spoil(draw: Draw, call: Call, changes: int) -> None:
    """Apply so many changes, each of which makes the call bad, or fewer where no more apply.

    Each is made to the good call, and then what it changed is taken over: two changes of what must fit each other might
    make good what each makes bad, so that they have to concern different arguments.
    """
    if changes and call.surface == "generator":  # else it would not look at its arguments
        call.arguments |= {"training": True, "num_dn": call.arguments["num_dn"] or 5}
    good = _copy(call)
    for _ in range(50 * changes):  # not every change applies to every call
        if len(call.refusals) == changes:
            return
        attempt = _copy(good)
        names = draw.choice(BAD)(draw, attempt)
        if names and not any(set(names) & set(others) for others in call.refusals):
            _take_over(call.options, good.options, attempt.options)
            _take_over(call.arguments, good.arguments, attempt.arguments)
            call.notes += attempt.notes
            call.refusals.append(names)


def _copy(call):
    return replace(call, options={**call.options}, arguments={**call.arguments}, notes=[])


def _take_over(mine, before, after):
    """Change in `mine` what differs between the other two."""
    for name in before:
        if name not in after:
            mine.pop(name, None)
    mine |= {name: value for name, value in after.items() if name not in before or value is not before[name]}
