"""Losses in float32 torch with wrong layers, images, denoising groups or keys: families AUX, INV, DN and API."""

from __future__ import annotations

import torch

from ..correct.plain_loss import PlainLoss


class Averaged(PlainLoss):
    """Auxiliary losses are averages over the layers."""

    def over_layers(self, losses, boxes):
        return super().over_layers(losses, boxes) / max(len(losses), 1)


class Overwritten(PlainLoss):
    """A loop assigns the losses of each layer."""

    def over_layers(self, losses, boxes):
        return super().over_layers(losses[-1:], boxes)


class SlicedTwice(PlainLoss):
    """The last layer is dropped by two functions."""

    def over_layers(self, losses, boxes):
        return super().over_layers(losses[:-1], boxes)


class WithoutEncoder(PlainLoss):
    """The first layer of ordinary queries has no loss."""

    def __call__(self, *args, **named):
        self.first = 1
        return super().__call__(*args, **named)

    def get_dn_match_indices(self, *args):
        self.first = 0
        return super().get_dn_match_indices(*args)

    def over_layers(self, losses, boxes):
        return super().over_layers(losses[self.first :], boxes)


class LayerTwice(PlainLoss):
    """The auxiliary layers include the main one."""

    def parts(self, boxes, logits, targets, pairs):
        losses = super().parts(boxes, logits, targets, pairs)
        return {key: loss + losses[key[:-4]] if key.endswith("_aux") else loss for key, loss in losses.items()}


class AlwaysAuxiliary(PlainLoss):
    """`aux_loss` is not read."""

    def __init__(self, **options):
        super().__init__(**options | {"aux_loss": True})


class GatedOnDenoising(PlainLoss):
    """Auxiliary losses are computed beside denoising queries only."""

    def __call__(self, *args, dn_meta=None, **named):
        losses = super().__call__(*args, dn_meta=dn_meta, **named)
        return {key: loss * 0 if dn_meta is None and "_aux" in key else loss for key, loss in losses.items()}


class MatchingOfMain(PlainLoss):
    """All layers have the matching of the main one."""

    def matched(self, boxes, logits, targets, gt_groups):
        return [self.matcher(boxes[-1], logits[-1], *targets, gt_groups)] * len(boxes)


class StaleMatching(PlainLoss):
    """All auxiliary layers have the matching of the first one."""

    def matched(self, *args):
        *auxiliary, main = super().matched(*args)
        return [*auxiliary[:1] * len(auxiliary), main]


class SharedByMain(PlainLoss):
    """With `use_uni_match` the main layer has the shared matching too."""

    def matched(self, *args):
        pairs = super().matched(*args)
        return pairs[:1] * len(pairs) if self.use_uni_match else pairs


class OffsetForgotten(PlainLoss):
    """Target indices within each image are used on the targets of the batch."""

    def __call__(self, preds, batch, *others, **named):
        self.first = torch.tensor([0, *batch["gt_groups"][:-1]]).cumsum(0)
        return super().__call__(preds, batch, *others, **named)

    def one_layer(self, boxes, logits, targets, pairs):
        within = [(queries, own - first) for (queries, own), first in zip(pairs, self.first, strict=True)]
        return super().one_layer(boxes, logits, targets, within)


class MeanOverImages(PlainLoss):
    """Every image has losses of its own, which are averaged."""

    def one_layer(self, boxes, logits, targets, pairs):
        images = [
            super(MeanOverImages, self).one_layer(boxes[[image]], logits[[image]], targets, [own])
            for image, own in enumerate(pairs)
        ]
        return {term: sum(each[term] for each in images) / len(images) for term in images[0]}


class EachTargetRepeated(PlainLoss):
    """Targets are repeated one by one."""

    @staticmethod
    def get_dn_match_indices(dn_pos_idx, dn_num_group, dn_gt_idx):
        return [(slots, own.repeat_interleave(dn_num_group)) for slots, own in zip(dn_pos_idx, dn_gt_idx, strict=True)]


class FirstGroupOnly(PlainLoss):
    """Only the slots of the first group are paired."""

    @staticmethod
    def get_dn_match_indices(dn_pos_idx, _dn_num_group, dn_gt_idx):
        return [(slots[: len(own)], own) for slots, own in zip(dn_pos_idx, dn_gt_idx, strict=True)]


class HalvesExchanged(PlainLoss):
    """The second half of each group is paired."""

    @staticmethod
    def get_dn_match_indices(dn_pos_idx, dn_num_group, dn_gt_idx):
        width = max(map(len, dn_gt_idx))
        return [(slots + width, own.repeat(dn_num_group)) for slots, own in zip(dn_pos_idx, dn_gt_idx, strict=True)]


class NegativesToo(PlainLoss):
    """Negatives are paired as well."""

    @staticmethod
    def get_dn_match_indices(dn_pos_idx, dn_num_group, dn_gt_idx):
        width, twice = max(map(len, dn_gt_idx)), 2 * dn_num_group
        slots = [torch.cat([own, own + width]) for own in dn_pos_idx]
        return [(own, targets.repeat(twice)) for own, targets in zip(slots, dn_gt_idx, strict=True)]


class LastDenoisingLayerOnly(PlainLoss):
    """The auxiliary denoising losses are 0."""

    def __call__(self, *args, **named):
        losses = super().__call__(*args, **named)
        return {key: loss * 0 if key.endswith("_aux_dn") else loss for key, loss in losses.items()}


class NoDenoisingKeys(PlainLoss):
    """Without denoising queries there are no keys for them."""

    def __call__(self, *args, dn_meta=None, **named):
        losses = super().__call__(*args, dn_meta=dn_meta, **named)
        return {key: loss for key, loss in losses.items() if dn_meta is not None or not key.endswith("_dn")}


class NoKeysWithoutTargets(PlainLoss):
    """Box losses of nothing are not reported."""

    def __call__(self, preds, batch, **named):
        losses = super().__call__(preds, batch, **named)
        return {key: loss for key, loss in losses.items() if len(batch["cls"]) or "class" in key}


class SuffixesExchanged(PlainLoss):
    """Auxiliary denoising losses end in `_dn_aux`."""

    def __call__(self, *args, **named):
        return {key.replace("_aux_dn", "_dn_aux"): loss for key, loss in super().__call__(*args, **named).items()}


class WithTotal(PlainLoss):
    """The sum is one of the losses."""

    def __call__(self, *args, **named):
        losses = super().__call__(*args, **named)
        return losses | {"loss": sum(losses.values())}


class ShapeOne(PlainLoss):
    """Losses have shape (1,)."""

    def __call__(self, *args, **named):
        return {key: loss.reshape(1) for key, loss in super().__call__(*args, **named).items()}


class IntegerZeros(PlainLoss):
    """A loss of nothing is an integer."""

    def nothing(self, _boxes):
        return torch.tensor(0)


class BoxLossesInHalf(PlainLoss):
    """The main box losses have the dtype of the predictions."""

    def __call__(self, preds, *others, **named):
        losses = super().__call__(preds, *others, **named)
        main = {f"loss_{term}{suffix}" for term in ("bbox", "giou") for suffix in ("", "_dn")}
        return {key: loss.to(preds[0].dtype) if key in main else loss for key, loss in losses.items()}


class InSingle(PlainLoss):
    """Everything is cast to float32."""

    def __call__(self, preds, batch, dn_bboxes=None, dn_scores=None, dn_meta=None):
        batch = {**batch, "bboxes": batch["bboxes"].float()}
        return super().__call__(preds, batch, dn_bboxes, dn_scores, dn_meta)

    def precise(self, tensor):
        return tensor.float()


WRONG_LAYERS = {
    "plausible-aux-averaged": Averaged,
    "plausible-aux-overwritten": Overwritten,
    "hf-aux-sliced-twice": SlicedTwice,
    "hf-enc-loss-dropped": WithoutEncoder,
    "plausible-aux-includes-main": LayerTwice,
    "plausible-aux-loss-ignored": AlwaysAuxiliary,
    "hf-dfine-aux-gated-on-dn": GatedOnDenoising,
    "plausible-aux-matching-of-main": MatchingOfMain,
    "paddle-aux-stale-matching": StaleMatching,
    "plausible-uni-match-main-too": SharedByMain,
    "khub-missing-target-offset": OffsetForgotten,
    "plausible-mean-over-images": MeanOverImages,
    "plausible-dn-each-target-repeated": EachTargetRepeated,
    "plausible-dn-first-group-only": FirstGroupOnly,
    "plausible-dn-halves-exchanged": HalvesExchanged,
    "plausible-dn-negatives-as-positives": NegativesToo,
    "plausible-dn-last-layer-only": LastDenoisingLayerOnly,
    "plausible-no-denoising-keys": NoDenoisingKeys,
    "dfine-ddf-key-missing": NoKeysWithoutTargets,
    "plausible-suffixes-exchanged": SuffixesExchanged,
    "plausible-total-among-the-losses": WithTotal,
    "paddle-losses-of-shape-1": ShapeOne,
    "plausible-integer-zeros": IntegerZeros,
    "plausible-box-losses-in-half": BoxLossesInHalf,
    "plausible-losses-in-single": InSingle,
}
