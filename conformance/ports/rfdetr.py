"""The criterion of the `rfdetr` package."""

from __future__ import annotations

from collections.abc import Callable

from detr_conformance.ports.absent_operators import declare_torchvision_operators
from detr_conformance.ports.list_of_dicts_port import ListOfDictsPort, Names
from detr_conformance.properties.case import LossCase

declare_torchvision_operators()

from rfdetr.models.criterion import SetCriterion  # noqa: E402  # after the above
from rfdetr.models.matcher import HungarianMatcher  # noqa: E402  # as above

LOSSES = ["labels", "boxes", "cardinality"]


class RFDETRPort(ListOfDictsPort):
    """`SetCriterion` with its `HungarianMatcher`, in training; layer 0 of a case is the encoder's."""

    name = "rfdetr"
    profile = "rfdetr"
    capabilities = frozenset({"ia_bce", "focal", "query_groups", "gradients", "one_object", "match"})
    dtypes = frozenset({"float32", "float64"})  # torch.cdist has no CPU kernel for half precision
    names = Names(encoder="enc_outputs")

    def build(self, case: LossCase) -> SetCriterion:
        """The criterion, with the matcher that the package's recipe has."""
        config = case.config
        matcher = HungarianMatcher(cost_class=2.0, cost_bbox=5.0, cost_giou=2.0, focal_alpha=0.25)
        return SetCriterion(
            config.nc,
            matcher,
            self.weights(None, case),
            config.alpha,
            LOSSES,
            group_detr=config.query_groups,
            ia_bce_loss=config.classification == "ia_bce",
        )

    def weights(self, loss: SetCriterion | None, case: LossCase) -> dict[str, float]:  # noqa: ARG002  # the signature
        """The criterion keeps them for its trainer."""
        gain = case.config.loss_gain
        return {"loss_ce": gain["class"], "loss_bbox": gain["bbox"], "loss_giou": gain["giou"]}

    def matcher(self, case: LossCase) -> Callable[..., object]:
        """The matcher, told of the groups."""
        matcher = self.build(case).matcher
        return lambda outputs, targets: matcher(outputs, targets, group_detr=case.config.query_groups)


def port() -> RFDETRPort:
    """The installed `rfdetr` package."""
    return RFDETRPort()
