"""Stand-in ports that end their process, or keep it waiting: without PyTorch, so that a new one starts quickly."""

from __future__ import annotations

import os
import time
from pathlib import Path

from detr_conformance.ports.reference_port import ReferencePort


class Deadly(ReferencePort):
    """Ends the process whatever it is asked."""

    def loss(self, _case):
        os._exit(1)

    losses_of_ranks = losses_of_steps = defaults = losses_in_turn = match = denoising_indices = denoising_group = loss
    point_counts = loss


class Mortal:
    """A port that ends its process whatever it is asked, and that can be built a few times only."""

    def __init__(self, name, lives):
        self.name, self.lives = name, lives

    def __call__(self):
        built = Path(self.name)
        if built.exists() and len(built.read_text()) >= self.lives:
            os._exit(3)
        with built.open("a") as file:
            file.write("I")
        return Deadly(name=self.name)


class Slow(ReferencePort):
    """Takes its time, and says so."""

    def loss(self, case):
        Path("asked").touch()
        time.sleep(60)
        return super().loss(case)


deadly = Deadly(name="deadly")
stillborn = Mortal("stillborn", 1)  # in the process that was started
mortal = Mortal("mortal", 2)  # and in one worker
slow = Slow(name="slow")
