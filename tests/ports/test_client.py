"""A real client: the README's program trains an RT-DETR of the ultralytics package, with our loss and with its own.

The two trainings can be compared step by step because the program leaves the batch statistics alone. With those of two
small images, training amplifies: a difference of 1e-7 in the first step is 1e-3 in the fourth, and so is a wrong
gradient.

Runs where the package is installed: `tox run -e client`.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the client is in PyTorch")
pytest.importorskip("ultralytics", reason="needs the ultralytics package: tox run -e client")
import torch
from ultralytics.models.utils.loss import RTDETRDetectionLoss as TheirLoss
from ultralytics.nn.tasks import RTDETRDetectionModel

from detr_conformance.optimized import RTDETRDetectionLoss

pytestmark = pytest.mark.thorough

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
(PROGRAM,) = re.findall(r"^```python\n(# train\.py\n.*?)^```", README, re.DOTALL | re.MULTILINE)
SWITCH = "from detr_conformance.optimized import RTDETRDetectionLoss\n"
TOLERANCE = 1e-5  # of a loss; measured: 2e-7, two roundings of float32


class EnoughError(Exception):
    """Ends a program that would go on."""


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Sums in one order on every machine, and no thread that waits for another where the machine is busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def losses_of(program, steps, **names):
    """What the README's program prints in its first steps."""
    shown = []

    def note(loss):
        shown.append(loss)
        if len(shown) == steps:
            raise EnoughError

    with pytest.raises(EnoughError):
        exec(program, {"print": note, **names})  # noqa: S102  # the program of our own documentation
    return shown


@pytest.fixture(scope="module")
def theirs():
    """The losses of the training with the package's own class, called by the same program."""
    return losses_of(PROGRAM.replace(SWITCH, ""), 10, RTDETRDetectionLoss=TheirLoss)


def test_a_model_trains_with_our_loss_as_with_its_own(theirs, capsys):
    ours = losses_of(PROGRAM, 10)
    apart = max(abs(a - b) / b for a, b in zip(ours, theirs, strict=True))
    with capsys.disabled():
        print(f"\nlargest relative difference of a loss in ten steps: {apart:.1e}")  # noqa: T201  # the figure of the run
    assert ours == pytest.approx(theirs, rel=TOLERANCE)
    assert ours[5] < ours[0] / 2, "nothing was learnt"


class Broken(RTDETRDetectionLoss):
    """Our loss with a mistake in it."""

    def forward(self, *arguments, **more):
        return self.spoilt(super().forward(*arguments, **more))


class WithoutAGradient(Broken):
    def spoilt(self, losses):
        return losses | {"loss_giou_aux": losses["loss_giou_aux"].detach()}


class DrawsANumber(Broken):
    def spoilt(self, losses):
        torch.rand(1)
        return losses


class OtherBalance(RTDETRDetectionLoss):
    def __init__(self, **options):
        super().__init__(**options, alpha=0.26)


@pytest.mark.parametrize("loss", [WithoutAGradient, DrawsANumber, OtherBalance])
def test_a_broken_loss_is_seen_within_three_steps(loss, theirs):
    broken = losses_of(PROGRAM.replace(SWITCH, ""), 3, RTDETRDetectionLoss=loss)
    assert broken != pytest.approx(theirs[:3], rel=TOLERANCE)


def test_validation_shows_the_same_losses():
    torch.manual_seed(0)
    model = RTDETRDetectionModel("rtdetr-l.yaml", nc=7, verbose=False).eval()
    boxes = {"cls": torch.tensor([[1], [6]]), "bboxes": torch.rand(2, 4) / 2, "batch_idx": torch.tensor([0, 0])}
    batch = {"img": torch.rand(2, 3, 128, 128), **boxes}
    shown = []
    with torch.inference_mode():  # as the package's validator does
        predictions = model(batch["img"])
        for loss_class in (RTDETRDetectionLoss, TheirLoss):
            model.criterion = loss_class(nc=7, use_vfl=True)
            shown.append({key: loss.item() for key, loss in model.loss(batch, predictions)[1].items()})
    assert shown[0] == pytest.approx(shown[1], rel=TOLERANCE)
