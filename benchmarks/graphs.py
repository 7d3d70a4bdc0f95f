"""Steps in other forms, for a CUDA device: captured as a graph, and with the matching given."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from settings import GAINS, Gradients, Losses, Setting, Step
from workloads import Inputs


def captured(prepare: Callable[[], Step]) -> Callable[[], tuple[Losses, Gradients]]:
    """Replays of a step as one CUDA graph; each gives the same tensors, with new values.

    Args:
        prepare: makes the step, its predictions included: autograd hands a gradient over on the stream on which the
            tensor was made, and the default stream cannot wait for one that is being captured.
    """
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        step = prepare()
        for _ in range(3):  # what is allocated or compiled in the first calls must not be captured
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        results = step()

    def replay() -> tuple[Losses, Gradients]:
        graph.replay()
        return results

    return replay


def with_and_without_solver(inputs: Inputs, setting: Setting) -> dict[str, Callable[[], Step]]:
    """The ordinary queries' loss, once with every layer matched, once with the last layer's matching given for all."""
    from detr_conformance.optimized import DETRLoss

    options = {"use_vfl": setting.use_vfl, "alpha": setting.alpha, "gamma": setting.gamma}
    loss = DETRLoss(inputs.workload.classes, GAINS, **options)
    targets = (inputs.batch[key] for key in ("bboxes", "cls", "gt_groups"))
    matching = loss.matcher(inputs.ordinary("boxes")[-1], inputs.ordinary("logits")[-1], *targets)

    def prepare(match_indices: list[tuple[torch.Tensor, torch.Tensor]] | None) -> Step:
        predictions = (inputs.ordinary("boxes"), inputs.ordinary("logits"))
        forward = partial(loss, *predictions, inputs.batch, match_indices=match_indices)
        return Step(forward, predictions, dict, same_gradients=True)

    return {"matched": partial(prepare, None), "matching given": partial(prepare, matching)}


def main_layer(losses: Losses) -> Losses:
    """What the two have in common: the last layer's pairs."""
    return {key: loss for key, loss in losses.items() if not key.endswith("_aux")}
