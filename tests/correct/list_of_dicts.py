"""RT-DETR's criterion called with dictionaries, through the adapter for criteria of this form."""

from __future__ import annotations

import torch

from detr_conformance.ports.list_of_dicts_port import ListOfDictsPort, Names

from .rtdetr_layers import Criterion, Matcher

COSTS = {"class": 2.0, "bbox": 5.0, "giou": 2.0}


class DictionaryMatcher(Matcher):
    """Returns more than the pairs."""

    def __call__(self, outputs, targets):
        return {"indices": super().__call__(outputs, targets), "cost": None}


class DictionaryCriterion(Criterion):
    """Layers in lists, those of the encoder and of denoising queries too; pairs of the latter by their slots."""

    def __call__(self, outputs, targets):
        number = max(sum(len(each["labels"]) for each in targets), 1)
        losses = self.named("", outputs, targets, self.matcher(outputs, targets)["indices"], number)
        for suffix, name in (("_aux", "aux_outputs"), ("_enc", "enc_aux_outputs")):
            for place, layer in enumerate(outputs.get(name, ())):
                own = self.matcher(layer, targets)["indices"]
                losses |= self.named(f"{suffix}_{place}", layer, targets, own, number)
        for place, layer in enumerate(outputs.get("dn_outputs", ())):
            own = self.get_cdn_matched_indices(outputs["dn_meta"], targets)
            groups = outputs["dn_meta"]["dn_num_group"]
            losses |= self.named(f"_dn_{place}", layer, targets, own, number * groups)
        return losses

    @staticmethod
    def get_cdn_matched_indices(meta, targets):
        groups = meta["dn_num_group"]
        rows = zip(meta["dn_positive_idx"], targets, strict=True)
        return [(slots, torch.arange(len(each["labels"])).tile(groups)) for slots, each in rows]


class ListOfDicts(ListOfDictsPort):
    """Under the profile `rtdetr`."""

    name = "list-of-dicts"
    profile = "rtdetr"
    capabilities = frozenset(
        {"varifocal", "focal", "bce", "no_aux", "denoising", "gradients", "one_object", "concurrent"}
        | {"match", "matcher_options", "denoising_indices"}
    )
    dtypes = frozenset({"float32", "float64"})
    names = Names(logits="logits", boxes="boxes", encoders="enc_aux_outputs")

    def build(self, case):
        return DictionaryCriterion(case.config, DictionaryMatcher(COSTS))

    def matcher(self, case):
        options = case.matcher
        return DictionaryMatcher(options.cost_gain, options.use_fl, options.alpha, options.gamma)
