"""Stand-in ports: the reference with one thing wrong each."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace

import numpy as np

from detr_conformance.ports.reference_port import ReferencePort

sys.stdout.write("noise while it is imported")

good = ReferencePort(name="good")


class Wrong(ReferencePort):
    """Its classification loss is a thousandth too large."""

    def loss(self, case):
        result = super().loss(case)
        losses = {key: value * (1.001 if key == "loss_class" else 1.0) for key, value in result.losses.items()}
        return replace(result, losses=losses)


class Modest(ReferencePort):
    """Declares next to nothing, and tells everybody what it does."""

    capabilities = frozenset({"focal"})
    dtypes = frozenset({"float32"})

    def loss(self, case):
        sys.stdout.write("noise from Python")
        os.write(1, b"noise from C")
        return super().loss(case)


class Raising(ReferencePort):
    def loss(self, _case):
        raise RuntimeError("[bold]no\x1b[31m kernel\n for this \udcff")


class Careless(ReferencePort):
    """Raises where a prediction is no number."""

    def loss(self, case):
        if not all(np.isfinite(array).all() for array in case.float_arrays().values()):
            raise ValueError("matrix contains invalid numeric entries")
        return super().loss(case)


class Hopeless(ReferencePort):
    """Its loss returns something else, and its matcher hangs."""

    def loss(self, _case):
        return {"loss_class": 1.0}

    def match(self, _case):
        time.sleep(1000)


class Dying(ReferencePort):
    def loss(self, _case):
        os._exit(1)


class Impatient(ReferencePort):
    """Somebody presses ctrl-C while it computes."""

    def loss(self, _case):
        raise KeyboardInterrupt


wrong = Wrong(name="wrong")
modest = Modest(name="modest")
raising = Raising(name="raising \x1b[31m")
careless = Careless(name="careless")
hopeless = Hopeless(name="hopeless")
dying = Dying(name="dying")
impatient = Impatient(name="impatient")

number = 5


def factory():
    return good


def returns_none():
    return None


def raises():
    raise ValueError("two\nlines")


def exits():
    raise SystemExit(0)


class NeedsArgument(ReferencePort):
    def __init__(self, _argument):
        super().__init__()


class NoPort:
    """Has nothing that a port has."""


class FewerThings:
    """Looks like a port; what it declares is replaced below."""

    name, profile = "odd", "ultralytics"
    capabilities: object = frozenset({"focal"})
    dtypes: object = frozenset({"float32"})

    def loss(self, case):
        raise NotImplementedError


class ListOfCapabilities(FewerThings):
    capabilities = ["focal"]  # noqa: RUF012  # the mistake is the point


class UnknownCapability(FewerThings):
    capabilities = frozenset({"telepathy"})


class LacksMatch(FewerThings):
    capabilities = frozenset({"match"})


class UnknownDtype(FewerThings):
    dtypes = frozenset({"fp32"})


class NamelessPort(FewerThings):
    name = None


class LacksGain(FewerThings):
    options = {"loss_gain": ({"class": 1.0},)}  # noqa: RUF012  # see above


class UnknownProfile(FewerThings):
    profile = "ultra"


class Explosive(FewerThings):
    @property
    def name(self):
        raise RuntimeError("boom")


class LossClass:
    """Has the constructor of Ultralytics' loss and can be called."""

    def __init__(self, nc, **_options):
        self.nc, self.matcher = nc, abs

    def __call__(self, _preds, _batch):
        return {}


class NotCallable:
    """Can be built but not called."""

    def __init__(self, **options):
        self.options = options
