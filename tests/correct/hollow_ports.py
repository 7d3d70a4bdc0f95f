"""Ports with nothing inside: of a correct port they have the keys, and not the losses or not the gradients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from detr_conformance.properties.port_under_test import PortUnderTest, call_of

ABOUT_THE_LOSS = frozenset(
    {"gradients", "denoising", "denoising_subset", "no_aux", "uni_match", "query_groups", "masks", "mask_points"}
)
"""Capabilities that a port can have whose only method is `loss`, beside its classification losses."""


class Detached:
    """The losses of another port without any gradient."""

    def __init__(self, port, classification):
        self.port = port
        self.name, self.profile, self.dtypes = (
            f"{type(self).__name__.lower()}-{port.profile}",
            port.profile,
            port.dtypes,
        )
        self.capabilities = port.capabilities & (ABOUT_THE_LOSS | classification)

    def loss(self, case):
        result = self.port.loss(case)
        return replace(result, losses={key: self.instead(loss) for key, loss in result.losses.items()}, gradients={})

    def instead(self, loss):
        return loss


class Null(Detached):
    """Every loss is 0."""

    def instead(self, loss):
        return np.zeros_like(loss)


class Constant(Detached):
    """Every loss is 1."""

    def instead(self, loss):
        return np.ones_like(loss)


class DetachedPart(Detached):
    """All gradients are there but those of one canonical key."""

    def __init__(self, port, classification, part):
        super().__init__(port, classification)
        self.part, self.judged = part, PortUnderTest(port)

    def loss(self, case):
        result, call = self.port.loss(case), call_of(case, self.judged.spec)
        own = [key for key in result.losses if self.judged.keys.canonical(key, call) == self.part]
        return replace(result, gradients=Without(result.gradients, own))


class Without(Mapping):
    """A mapping some of whose values are empty; it asks for the others only when it is asked."""

    def __init__(self, mapping, empty):
        self.mapping, self.empty = mapping, empty

    def __getitem__(self, key):
        return {} if key in self.empty else self.mapping[key]

    def __iter__(self):
        return iter(self.mapping)

    def __len__(self):
        return len(self.mapping)
