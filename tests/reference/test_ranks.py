"""Several batches of one optimiser step: ranks of data-parallel training, and micro-batches with one normaliser."""

from __future__ import annotations

import numpy as np
import pytest

from detr_conformance.reference import FAMILY, Criterion, Inputs, LossConfig, replace_in
from detr_conformance.reference.inputs import DenoisingInputs
from detr_conformance.reference.matcher import Targets
from detr_conformance.reference.merged_batch import losses_of_ranks, losses_of_steps
from detr_conformance.reference.options import FURTHER_CLASS_LOSSES
from detr_conformance.reference.ranks import mean_over_ranks, of_own_rank, pairs_over_ranks

pytestmark = pytest.mark.usefixtures("shapes_unchecked")  # other tests of the reference check them

LAYERS, QUERIES, CLASSES = 3, 6, 3
KEYS = [f"loss_{term}{layers}" for term in ("class", "bbox", "giou") for layers in ("", "_aux")]


def config_for(spec):
    [kind, *_] = spec.class_terms
    return LossConfig(CLASSES, use_vfl=kind == "varifocal", class_loss=kind if kind in FURTHER_CLASS_LOSSES else "")


def batch(spec, counts, seed=0):
    """Images with so many targets each."""
    rng = np.random.default_rng([seed, *counts])
    boxes = 0.2 + 0.5 * rng.random((LAYERS, len(counts), QUERIES, 4))
    logits = rng.normal(size=(LAYERS, len(counts), QUERIES, spec.columns(CLASSES)))
    targets = Targets(0.2 + 0.5 * rng.random((sum(counts), 4)), rng.integers(0, CLASSES, sum(counts)), counts)
    return Inputs(boxes, logits, targets)


def merged(batches):
    targets = [each.targets for each in batches]
    counts = tuple(count for each in targets for count in each.counts)
    together = Targets(*(np.concatenate([each[part] for each in targets]) for part in (0, 1)), counts)
    boxes, logits = (np.concatenate([getattr(each, name) for each in batches], axis=1) for name in ("boxes", "logits"))
    return Inputs(boxes, logits, together)


def values(losses, keys=KEYS):
    return np.array([float(losses[key]) for key in keys])


def mean(losses, keys=KEYS):
    return np.mean([values(each, keys) for each in losses], axis=0)


REDUCING = [name for name, spec in FAMILY.items() if spec.over_ranks in (mean_over_ranks, pairs_over_ranks)]


def test_most_members_of_the_family_average_over_ranks():
    assert set(FAMILY) - set(REDUCING) == {"ultralytics", "detr", "detr-masks"}


@pytest.mark.parametrize("counts", [[(3, 0), (1, 1)], [(3,), (0,), (2, 4)]], ids=["two", "three, one without targets"])
@pytest.mark.parametrize("name", REDUCING)
def test_the_mean_over_ranks_is_the_merged_batch(name, counts):
    spec, config = FAMILY[name], config_for(FAMILY[name])
    ranks = [batch(spec, each) for each in counts]
    expected = Criterion(spec, config)(merged(ranks))
    assert np.allclose(mean(losses_of_ranks(spec, config, ranks)), values(expected), rtol=1e-12)


def test_gradients_are_averaged_like_losses():
    spec, config = FAMILY["rtdetr"], config_for(FAMILY["rtdetr"])
    ranks = [batch(spec, each) for each in [(3,), (0,), (2, 4)]]
    expected, of_ranks = Criterion(spec, config)(merged(ranks)), losses_of_ranks(spec, config, ranks)
    for key in ("loss_class", "loss_class_aux"):
        joined = np.concatenate([each[key].gradients["pred_scores"].values for each in of_ranks], axis=1)
        assert np.allclose(joined / 3, expected[key].gradients["pred_scores"].values, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("counts", [[(1,), (0,), (0,)], [(0,), (0,)], [(1,), (1,)]])
def test_a_mean_count_below_one_is_taken_for_one(counts):
    spec, config = FAMILY["deformable"], config_for(FAMILY["deformable"])
    ranks = [batch(spec, each, seed) for seed, each in enumerate(counts)]
    total = values(Criterion(spec, config)(merged(ranks))) * max(np.sum(counts), 1)
    assert np.allclose(sum(map(values, losses_of_ranks(spec, config, ranks))), total, rtol=1e-12)


def test_ranks_of_the_base_are_as_alone():
    spec, config = FAMILY["ultralytics"], LossConfig(CLASSES)
    ranks = [batch(spec, each) for each in [(3, 0), (0,), (1,)]]
    for rank, losses in zip(ranks, losses_of_ranks(spec, config, ranks), strict=True):
        assert (values(losses) == values(Criterion(spec, config)(rank))).all()


def test_the_weighted_mean_of_detr_is_that_of_the_rank_and_its_boxes_are_averaged():
    spec, config = FAMILY["detr"], config_for(FAMILY["detr"])
    ranks = [batch(spec, each) for each in [(3,), (1,)]]
    losses, expected = losses_of_ranks(spec, config, ranks), Criterion(spec, config)(merged(ranks))
    of_class = ["loss_class", "loss_class_aux"]
    for rank, own in zip(ranks, losses, strict=True):
        assert (values(own, of_class) == values(Criterion(spec, config)(rank), of_class)).all()
    assert np.allclose(mean(losses, ["loss_bbox"]), values(expected, ["loss_bbox"]), rtol=1e-12)


def test_two_equal_ranks_with_five_and_one_targets_divide_by_three():
    spec = FAMILY["rtdetr"]
    config, ranks = config_for(spec), [batch(spec, (5,)), batch(spec, (1,))]
    alone = [Criterion(spec, config)(each) for each in ranks]
    losses = losses_of_ranks(spec, config, ranks)
    quotients = [values(one) / values(other) for one, other in zip(losses, alone, strict=True)]
    assert np.allclose(quotients[0], 5 / 3)
    assert np.allclose(quotients[1], 1 / 3)


def with_denoising(inputs, groups):
    """As many positives as targets in each group, and nothing else."""
    counts, width = inputs.targets.counts, max(inputs.targets.counts)
    rng = np.random.default_rng(groups)
    shape = (LAYERS - 1, len(counts), width * groups)
    slots = [np.concatenate([np.arange(count) + width * group for group in range(groups)]) for count in counts]
    boxes, logits = 0.2 + 0.5 * rng.random((*shape, 4)), rng.normal(size=(*shape, inputs.logits.shape[-1]))
    dn = DenoisingInputs(boxes, logits, slots, None, groups)
    return Inputs(inputs.boxes, inputs.logits, inputs.targets, dn)


def test_denoising_losses_are_divided_by_the_mean_count_times_the_own_groups():
    spec, config = FAMILY["rtdetr"], config_for(FAMILY["rtdetr"])
    ranks = [with_denoising(batch(spec, (4,)), 1), with_denoising(batch(spec, (2,)), 3), batch(spec, (0,))]
    losses, keys = losses_of_ranks(spec, config, ranks), [f"{key}_dn" for key in KEYS]
    for rank, number in ((0, 4), (1, 2)):
        alone = Criterion(spec, config)(ranks[rank])
        assert np.allclose(values(losses[rank], keys), values(alone, keys) * number / 2.0, rtol=1e-12)
    assert (values(losses[2], keys) == 0.0).all()


@pytest.mark.parametrize(("name", "number"), [("rtdetr", 2.0), ("mmdet", 1.0)])
def test_a_mean_count_below_one_counts_in_each_group_where_groups_are_a_factor(name, number):
    spec, config = FAMILY[name], config_for(FAMILY[name])
    ranks, keys = [with_denoising(batch(spec, (1,)), 2), batch(spec, (0,))], ["loss_class_dn", "loss_bbox_dn"]
    alone = Criterion(spec, config)(ranks[0])
    assert np.allclose(values(losses_of_ranks(spec, config, ranks)[0], keys), values(alone, keys) * 2.0 / number)


@pytest.mark.parametrize("name", FAMILY)
def test_the_losses_of_micro_batches_add_up_to_those_of_the_merged_batch(name):
    spec, config = FAMILY[name], config_for(FAMILY[name])
    steps = [batch(spec, each, seed) for seed, each in enumerate([(2,), (0,), (1, 3)])]
    losses = losses_of_steps(spec, config, steps)
    assert np.allclose(sum(map(values, losses)), values(Criterion(spec, config)(merged(steps))), rtol=1e-12)


def test_a_single_rank_is_no_other_than_a_single_device():
    for spec in FAMILY.values():
        config, inputs = config_for(spec), batch(spec, (2, 0, 1))
        [losses] = losses_of_ranks(spec, config, [inputs])
        assert (values(losses) == values(Criterion(spec, config)(inputs))).all()


def test_what_ranks_share_is_a_decision():
    spec = replace_in(FAMILY["rtdetr"], "over_ranks", of_own_rank)
    config, ranks = config_for(spec), [batch(spec, (5,)), batch(spec, (1,))]
    assert (values(losses_of_ranks(spec, config, ranks)[0]) == values(Criterion(spec, config)(ranks[0]))).all()
