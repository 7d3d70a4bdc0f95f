"""Steps in other forms, for a CUDA device: captured as a graph, and with the matching given."""

from __future__ import annotations

from collections.abc import Callable

import torch
from settings import GAINS, Gradients, Losses, Setting, Step
from workloads import Inputs


def captured(step: Step) -> Callable[[], tuple[Losses, Gradients]]:
    """Replays of the step as one CUDA graph; each gives the same tensors, with new values."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # what is allocated or compiled in the first calls must not be captured
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = step()

    def replay() -> tuple[Losses, Gradients]:
        graph.replay()
        return results

    return replay


def with_and_without_solver(inputs: Inputs, setting: Setting) -> dict[str, Step]:
    """The ordinary queries' loss, once with every layer matched, once with the last layer's matching given for all."""
    from detr_conformance.optimized import DETRLoss

    options = {"use_vfl": setting.use_vfl, "alpha": setting.alpha, "gamma": setting.gamma}
    loss = DETRLoss(inputs.workload.classes, GAINS, **options)
    boxes, logits = predictions = (inputs.ordinary("boxes"), inputs.ordinary("logits"))
    targets = (inputs.batch[key] for key in ("bboxes", "cls", "gt_groups"))
    matching = loss.matcher(boxes[-1], logits[-1], *targets)
    return {
        "matched": Step(lambda: loss(*predictions, inputs.batch), predictions, dict, same_gradients=True),
        "matching given": Step(
            lambda: loss(*predictions, inputs.batch, match_indices=matching), predictions, dict, same_gradients=True
        ),
    }


def main_layer(losses: Losses) -> Losses:
    """What the two have in common: the last layer's pairs."""
    return {key: loss for key, loss in losses.items() if not key.endswith("_aux")}
