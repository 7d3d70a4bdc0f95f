"""Ports for tests of new processes: each does something else where nothing was asked of it before."""

from __future__ import annotations

import os
import sys
import time

import numpy as np

from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.properties.port import LossResult

asked = []


def doubled(result):
    return LossResult({key: 2.0 * np.asarray(loss) for key, loss in result.losses.items()}, result.gradients)


class Wrong(ReferencePort):
    """Every loss is twice what it has to be."""

    def loss(self, case):
        return doubled(super().loss(case))


class WrongLater(ReferencePort):
    """The first call of the process is right."""

    def loss(self, case):
        asked.append(case)
        return super().loss(case) if len(asked) == 1 else doubled(super().loss(case))


class Hanging(ReferencePort):
    """Does not answer."""

    def loss(self, _case):
        while True:
            time.sleep(60.0)


class Ending(ReferencePort):
    """Ends the process."""

    def loss(self, _case):
        assert sys.stdin.read() == "", "no question that is not its own"
        print("goodbye", flush=True)  # noqa: T201  # where answers are written
        os._exit(0)


wrong = Wrong(name="wrong")
wrong_later = WrongLater(name="wrong-later")
right = ReferencePort(name="right")
hanging = Hanging(name="hanging")
ending = Ending(name="ending")
