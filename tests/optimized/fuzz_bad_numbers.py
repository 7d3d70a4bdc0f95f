"""Changes of numbers, gains and switches that make a call bad."""

from __future__ import annotations

import math
from decimal import Decimal

import numpy as np
import torch

from .fuzz_bad_names import named

NOT_A_NUMBER = ("2", None, 1j, [1.0], torch.ones(2), Decimal(1), object(), {})
NOT_FINITE = (math.nan, math.inf, -math.inf, 10**400, np.float32("nan"), 1e19, -1e300, 10**30)
"""Or too large for float32."""

NOT_AN_INTEGER = (1.5, True, None, "1", 2.0, [1], torch.tensor(1.0), torch.tensor(True), np.float64(1), 1j, object())
LARGE = (10**12, 2**63, 10**30)


def bad_option(draw, call):
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


def bad_gains(draw, call):
    name = next((name for name in ("loss_gain", "cost_gain") if name in call.options), None)
    if name is None:
        return None
    good = {"class": 1.0, "bbox": 5.0, "giou": 2.0}
    term = draw.choice(list(good))
    wrong = [good | {term: value} for value in (*NOT_A_NUMBER, *NOT_FINITE)]
    missing = [{key: good[key] for key in good if key != term}] * 3
    no_mappings = [{}, 5, "abc", [1.0, 5.0, 2.0], [("class", 1.0)], {"class"}]
    call.options[name] = value = draw.choice([*wrong, *missing, *no_mappings])
    call.notes.append(f"{name} is {value!r}")
    return (name,)


def bad_keyword(draw, call):
    if call.surface == "assignment":
        call.arguments["backend"] = value = draw.choice(["cuda", "", 5])
        call.notes.append(f"backend is {value!r}")
        return ("backend",)
    values = {"backend": ["cuda", "", 5, "scipy", object(), torch]}
    if call.surface in ("loss", "detr", "layer", "auxiliary"):
        values |= {"process_group": [5, "gloo", object()], "uni_match_ind": [*NOT_AN_INTEGER]}
    elif call.surface == "matcher":
        values |= {"with_mask": [True, 1]}  # the calls here have no masks
    else:
        return None
    name = draw.choice(list(values))
    call.options[name] = value = draw.choice(values[name])
    if name == "with_mask":
        call.options.pop("num_sample_points", None)  # what did not matter is read now
    call.notes.append(f"{name} is {value!r}")
    return (name,)


def no_layer_to_share(draw, call):
    shared = call.surface in ("loss", "detr", "auxiliary") and call.options["aux_loss"]
    layers = call.arguments["pred_bboxes"].shape[0] if shared else 0
    auxiliary = layers - (call.surface != "auxiliary")
    if auxiliary < 1 or call.arguments.get("match_indices") is not None:
        return None
    call.options |= {"use_uni_match": True, "uni_match_ind": draw.choice([auxiliary, -auxiliary - 1, *LARGE])}
    return ("uni_match_ind",)


def bad_option_of_the_generator(draw, call):
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
    if any(call.flat()["gt_groups"]):  # without a target nothing is made, of whatever size
        values["num_queries"] += LARGE
        values["num_dn"] += LARGE
    name = draw.choice(list(values))
    call.arguments[name] = value = draw.choice(values[name])
    call.notes.append(f"{name} is {value!r}")
    return (name, "class_embed") if name == "num_classes" else (name,)


def bad_argument_of_a_part(draw, call):
    """Of the arguments that no other surface has."""
    of_surface = {"iou": ["eps"], "class": ["num_gts", "targets"], "assigned": ["gt_of_images"]}
    name = draw.choice(of_surface.get(call.surface, ["sizes"]))
    if name in ("targets", "sizes"):
        return _bad_entry(draw, call, name)
    no_boxes = [None, 5, "ab", [None], [], [torch.ones(2, 3)], [torch.ones(2, 4).int()], [[[0.5] * 4]]]
    numbers = [*NOT_A_NUMBER, *NOT_FINITE]
    value = draw.choice({"eps": numbers, "num_gts": [*numbers, -1], "gt_of_images": no_boxes}[name])
    if name == "gt_of_images" and isinstance(value, list):
        value = value * len(call.arguments[name])
    call.arguments[name] = value
    call.notes.append(f"{name} is {value!r}")
    return named([name])


def _bad_entry(draw, call, name):
    tensor = call.arguments.get(name)
    if tensor is None or not tensor.numel():
        return None
    call.arguments[name] = tensor = tensor.clone()
    tensor.view(-1)[draw.randrange(tensor.numel())] = value = draw.choice([-1, 99, 2**40])
    call.notes.append(f"{name} has {value}")
    return (name,)


BAD_NUMBERS = (
    bad_option, bad_gains, bad_keyword, no_layer_to_share, bad_option_of_the_generator, bad_option_of_the_generator,
    bad_argument_of_a_part,
)  # fmt: skip
