"""Changes of counts, of rows of indices and of mappings that make a call bad."""

from __future__ import annotations

import numpy as np
import torch

from .fuzz_bad_names import names_of
from .fuzz_bad_numbers import NOT_AN_INTEGER

JUNK = (5, 1.5, "ab", object(), {"a": 0, "b": 1}, {1, 2}, True)
"""In place of all rows."""

NO_ROW = (
    None, 5, 1.5, "ab", [0.5], [True], [[0]], [10**30], [None], ["a"], [[0], [0, 1]], {0: 0}, object(),
    np.array([None]), np.array(["a"]), torch.tensor(0), torch.tensor([0.5]), torch.tensor([1j]), torch.tensor([True]),
    torch.zeros((1, 1), dtype=torch.int64), torch.tensor([0]).to_sparse(),
)  # fmt: skip


def bad_counts(draw, call):
    if "gt_groups" not in call.arguments:
        return None
    counts = [int(count) for count in call.arguments["gt_groups"]]
    at = draw.randrange(len(counts))
    entries = [-1, -(10**30), 1.5, True, None, "1", torch.tensor(1.0), [1], np.float64(1), -np.int8(5)]
    wholes = [None, 5, "ab", {0: 1}, {1}, torch.tensor(counts), np.array(counts), iter(counts), b"\1", object()]
    if call.surface == "denoising indices":
        # There a list of rows in this place means the targets of a group.
        entries, wholes = entries[:2], wholes[:4]
    elif call.surface != "generator":  # which takes any number of images
        wholes += [[*counts, 0], counts[:-1], []]
    if call.arguments.get("dn_gt_idx") is None:  # else the counts need not fit the slots
        entries += [counts[at] + 1, 10**12, 2**63, 10**30, counts[at] - 1]
    value = draw.choice([*([*counts[:at], entry, *counts[at + 1 :]] for entry in entries), *wholes])
    call.arguments["gt_groups"] = value
    call.notes.append(f"gt_groups is {value!r}")
    return names_of(call, "gt_groups") + names_of(call, "dn_pos_idx")


def _one_bad_row(draw, rows, limit):
    """The rows with one of them bad: an index that is negative or, if there is a limit, beyond it; or no row at all."""
    rows = list(rows)
    at = draw.randrange(len(rows))
    if len(rows[at]) and draw.flip():
        bad = torch.tensor([int(index) for index in rows[at]])
        bad[draw.randrange(len(bad))] = draw.choice([-1, -(2**63), *([] if limit is None else [limit, 2**40])])
    else:
        bad = draw.choice(NO_ROW)
    return [*rows[:at], bad, *rows[at + 1 :]]


def bad_denoising_indices(draw, call):
    slots = [name for name in ("dn_pos_idx", "dn_gt_idx") if call.arguments.get(name) is not None]
    if not slots:
        return None
    slot = draw.choice(slots)
    rows = call.arguments[slot]
    if slot == "dn_gt_idx":
        limit = sum(call.flat()["gt_groups"])
    else:
        limit = None if call.surface == "denoising indices" else call.arguments["dn_bboxes"].shape[2]
    wholes = [*JUNK, [*rows, rows[-1]], rows[:-1], torch.tensor(3), *([None] if slot == "dn_pos_idx" else [])]
    value = draw.choice([_one_bad_row(draw, rows, limit)] * len(wholes) + wholes)
    call.arguments[slot] = value
    call.notes.append(f"{slot} is {value!r}")
    return (*names_of(call, slot), "gt_groups")


def bad_matching(draw, call):
    pairs = call.arguments.get("match_indices")
    if pairs is None:
        return None
    at, side = draw.randrange(len(pairs)), draw.randrange(2)
    pair, [queries, targets] = list(pairs[at]), pairs[at]
    [pair[side]] = _one_bad_row(draw, [pair[side]], _limits(call, at)[side])
    others = [[[*queries, 0], targets], None, 5, "ab", [], [queries], [queries, targets, []], {"a": 0, "b": 1}]
    wholes = list(JUNK)
    if call.surface != "index":  # which takes any number of images
        wholes += [[*pairs, pairs[-1]], [], None if call.surface == "assigned" else 5]
    bad_pair = draw.choice([pair] * 8 + others)
    value = draw.choice([[*pairs[:at], bad_pair, *pairs[at + 1 :]]] * 2 * len(wholes) + wholes)
    call.arguments["match_indices"] = value
    call.notes.append(f"match_indices is {value!r}")
    return ("match_indices",)


def _limits(call, image):
    """How many queries and targets there are to index; None: that is not known."""
    if call.surface == "index":
        return None, None
    own_targets = call.arguments["gt_of_images"][image] if call.surface == "assigned" else call.flat()["cls"]
    return call.arguments["pred_bboxes"].shape[-2], len(own_targets)


def missing_entry(draw, call):
    keys = ["bboxes", "cls", "gt_groups", *(["dn_pos_idx", "dn_num_group"] if call.surface == "loss" else [])]
    keys = [key for key in keys if key in call.arguments and call.surface in ("loss", "detr", "generator")]
    if not keys:
        return None
    key = draw.choice(keys)
    del call.arguments[key]
    call.notes.append(f"no {key}")
    return (f"'{key}' is missing",)


def no_mapping(draw, call):
    slots = {"loss": ["batch", "preds", "dn_meta"], "detr": ["batch"], "generator": ["batch"]}.get(call.surface)
    if not slots:
        return None
    slot = draw.choice(slots)
    if slot == "dn_meta" and not call.arguments["denoising"]:
        return None
    values = [5, "ab", [1, 2], (1,), {1, 2}, object(), torch.ones(2), torch.tensor(1.0)]
    if slot == "preds":
        values += [None, (), (None, None), iter(()), {"a": 1, "b": 2}, torch.ones(1, 2, 3, 4)]
        values += [torch.ones(2).to_sparse()]
    if slot == "batch" and call.surface != "generator":  # which has nothing to do without a batch
        values += [None, {}]
    call.arguments[slot] = value = draw.choice(values)
    call.notes.append(f"{slot} is {value!r}")
    return ("preds", "pred_bboxes", "pred_scores") if slot == "preds" else (slot,)


def bad_count_of_groups(draw, call):
    if "dn_num_group" not in call.arguments:
        return None
    values = [*NOT_AN_INTEGER, 0, -1, -(10**30)]
    if any(map(len, call.arguments["dn_pos_idx"])):  # without a slot there may be any number of groups
        values += [10**12, 2**63, 10**30, call.arguments["dn_num_group"] + 1]
    call.arguments["dn_num_group"] = value = draw.choice(values)
    call.notes.append(f"dn_num_group is {value!r}")
    return ("dn_num_group", "dn_pos_idx")


BAD_LISTS = (
    bad_counts, bad_counts, bad_denoising_indices, bad_denoising_indices, bad_matching, missing_entry, no_mapping,
    bad_count_of_groups,
)  # fmt: skip
