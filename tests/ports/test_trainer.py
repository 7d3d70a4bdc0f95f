"""Ultralytics' own trainer, with our loss as docs/optimized.md shows it and with the package's own.

Runs where the package is installed: `tox run -e client`.
"""

from __future__ import annotations

import csv
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

pytest.importorskip("torch", reason="the package is in PyTorch")
pytest.importorskip("ultralytics", reason="needs the ultralytics package: tox run -e client")
from PIL import Image
from ultralytics import RTDETR
from ultralytics.models.rtdetr.train import RTDETRTrainer

from detr_conformance.optimized import RTDETRDetectionLoss
from detr_conformance.ports.absent_operators import declare_torchvision_operators

pytestmark = [pytest.mark.thorough, pytest.mark.timeout(1800), pytest.mark.filterwarnings("ignore")]

DOCUMENT = (Path(__file__).parents[2] / "docs" / "optimized.md").read_text(encoding="utf-8")
(PROGRAM,) = re.findall(r"^```python\n(# fast_trainer\.py\n.*?)^```", DOCUMENT, re.DOTALL | re.MULTILINE)
LOSSES = ("train/giou_loss", "train/cls_loss", "train/l1_loss")
TOLERANCE = 3e-5  # five digits are logged; measured: one step in the last of them


@pytest.fixture(scope="module", autouse=True)
def torchvision():
    """The trainer imports it, and needs nothing of it."""
    declare_torchvision_operators()


@pytest.fixture
def fast_trainer(monkeypatch):
    """The module that the documentation shows."""
    module = ModuleType("fast_trainer")
    exec(compile(PROGRAM, "fast_trainer.py", "exec"), module.__dict__)  # noqa: S102  # a program of our own
    monkeypatch.setitem(sys.modules, "fast_trainer", module)
    return module


@pytest.fixture
def data(tmp_path):
    """Pictures of noise with up to four boxes each, and the file that describes them."""
    rng = np.random.default_rng(0)
    for split, pictures in {"train": 6, "val": 2}.items():
        images, labels = (tmp_path / kind / split for kind in ("images", "labels"))
        images.mkdir(parents=True)
        labels.mkdir(parents=True)
        for picture in range(pictures):
            Image.fromarray(rng.integers(0, 255, (96, 96, 3), dtype=np.uint8)).save(images / f"{picture}.png")
            sizes = rng.uniform(0.1, 0.4, (rng.integers(0, 5), 2))
            boxes = np.concatenate([rng.uniform(sizes / 2, 1 - sizes / 2), sizes], axis=1)
            lines = [f"{rng.integers(0, 3)} " + " ".join(f"{number:.4f}" for number in box) for box in boxes]
            (labels / f"{picture}.txt").write_text("\n".join(lines), encoding="utf-8")
    described = tmp_path / "data.yaml"
    described.write_text(
        f"path: {tmp_path}\ntrain: images/train\nval: images/val\nnames: [a, b, c]\n", encoding="utf-8"
    )
    return described


def logged(trainer, data, name):
    """What two epochs with this trainer log, epoch by epoch."""
    folder = data.parent / "runs"
    RTDETR("rtdetr-l.yaml").train(
        trainer=trainer, data=str(data), epochs=2, imgsz=96, batch=2, device="cpu", workers=0, seed=0,
        optimizer="AdamW", lr0=1e-4, project=str(folder), name=name, plots=False, val=False, amp=False, verbose=False,
    )  # fmt: skip
    with (folder / name / "results.csv").open(encoding="utf-8") as lines:
        return [[float(row[loss]) for loss in LOSSES] for row in csv.DictReader(lines)]


def test_a_trainer_logs_the_losses_that_it_logs_with_its_own(fast_trainer, data, monkeypatch):
    calls, forward = [], RTDETRDetectionLoss.forward

    def counted(self, *args, **named):
        calls.append(self)
        return forward(self, *args, **named)

    monkeypatch.setattr(
        fast_trainer, "RTDETRDetectionLoss", type("Counted", (RTDETRDetectionLoss,), {"forward": counted})
    )
    ours = logged(fast_trainer.FastTrainer, data, "ours")
    assert len(calls) >= 6  # three batches in each epoch
    theirs = logged(RTDETRTrainer, data, "theirs")
    assert len(ours) == len(theirs) == 2
    assert np.allclose(ours, theirs, rtol=TOLERANCE, atol=0)
