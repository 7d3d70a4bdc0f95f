"""Keys: the names of the losses."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, product
from typing import Any

import numpy as np

TERMS = ("class", "bbox", "giou")

LayerLosses = Mapping[str, Any]
"""The losses of one layer, or of several, by term: tracked arrays or variables."""


@dataclass(frozen=True)
class PartLosses:
    """The losses of ordinary or of denoising queries.

    Attributes:
        main: of the main layer.
        auxiliary: of each auxiliary layer; empty where they are not asked for.
        total: of the auxiliary layers together.
        layers: number of layers, the main one included.
    """

    main: LayerLosses
    auxiliary: Sequence[LayerLosses]
    total: LayerLosses
    layers: int


@dataclass(frozen=True)
class StepLosses:
    """The losses of a training step.

    Attributes:
        ordinary: of ordinary queries.
        denoising: of denoising queries, if there are any.
        aux_loss: auxiliary losses are asked for.
        classification: name of the classification loss that is asked for.
        targets: number of targets in the batch.
    """

    ordinary: PartLosses
    denoising: PartLosses | None
    aux_loss: bool
    classification: str
    targets: int

    def sums(self) -> dict[str, Any]:
        """Every loss, auxiliary layers summed up, under the canonical keys."""
        losses: dict[str, Any] = {}
        for suffix, part in (("", self.ordinary), ("_dn", self.denoising)):
            zeros = dict.fromkeys(self.ordinary.main, np.zeros(()))
            main, auxiliary = (zeros, zeros) if part is None else (part.main, part.total)
            losses |= {f"loss_{term}{suffix}": loss for term, loss in main.items()}
            if self.aux_loss:
                losses |= {f"loss_{term}_aux{suffix}": loss for term, loss in auxiliary.items()}
        return losses


@dataclass(frozen=True)
class Call:
    """What decides which keys a call returns.

    Attributes:
        layers: number of layers of ordinary queries.
        aux_loss: auxiliary losses are asked for.
        denoising_layers: number of layers of denoising queries; 0 without any.
        classification: name of the classification loss that is asked for.
    """

    layers: int
    aux_loss: bool
    denoising_layers: int
    classification: str


class KeyTable(ABC):
    """The names of the losses.

    A canonical key is `loss_class`, `loss_bbox` or `loss_giou`; with `_aux` for the auxiliary layers together; with
    `_dn` last for the denoising queries.
    """

    @abstractmethod
    def expected(self, call: Call) -> Sequence[frozenset[str]]:
        """The keys that a call must return: one of these sets."""

    @abstractmethod
    def canonical(self, key: str, call: Call) -> str | None:
        """The canonical key of the sum that this key is part of; None for a key that means nothing here."""

    @abstractmethod
    def named(self, losses: StepLosses) -> dict[str, Any]:
        """The losses under these names."""


@dataclass(frozen=True)
class SummedKeys(KeyTable):
    """The canonical keys themselves; those of denoising queries are there, and zero, without any too."""

    def expected(self, call: Call) -> Sequence[frozenset[str]]:
        """Twelve keys, or six without auxiliary losses."""
        parts = ("", "_dn", *(("_aux", "_aux_dn") if call.aux_loss else ()))
        return [frozenset(f"loss_{term}{part}" for term in TERMS for part in parts)]

    def canonical(self, key: str, call: Call) -> str | None:  # noqa: ARG002  # asked of every table
        """The key itself, if it is one."""
        return key if re.fullmatch(rf"loss_({'|'.join(TERMS)})(_aux)?(_dn)?", key) else None

    def named(self, losses: StepLosses) -> dict[str, Any]:
        """The sums."""
        return losses.sums()


@dataclass(frozen=True)
class LayerKeys(KeyTable):
    """One key for each layer: `loss_vfl`, `loss_vfl_aux_0`, …, `loss_vfl_dn_0`, …; none for what is not there.

    The last denoising layer is the main one. The encoder's layer is the last of the auxiliary ones, or `_enc_0`.

    Attributes:
        class_names: by classification loss, what `class` may be called instead.
    """

    class_names: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def expected(self, call: Call) -> Sequence[frozenset[str]]:
        """One set for each name of the classification loss, with and without a name of its own for the encoder."""
        count = call.layers - 1 if call.aux_loss else 0
        denoising = [f"_dn_{layer}" for layer in range(call.denoising_layers)]
        denoising = denoising if call.aux_loss else denoising[-1:]
        auxiliary = [[f"_aux_{layer}" for layer in range(count)]]
        if count:
            auxiliary.append([*auxiliary[0][:-1], "_enc_0"])
        names = self._names(call.classification)
        return [
            frozenset(f"loss_{term}{part}" for term in (name, *TERMS[1:]) for part in ("", *layers, *denoising))
            for name, layers in product(names, auxiliary)
        ]

    def canonical(self, key: str, call: Call) -> str | None:
        """Main, auxiliary or denoising, by how the key ends."""
        match = re.fullmatch(r"loss_([a-z]+)(?:_(aux|enc|dn)_(\d+))?", key)
        of_class = {*self._names(call.classification), *chain.from_iterable(self.class_names.values())}
        names = dict.fromkeys(of_class, "class") | {term: term for term in TERMS[1:]}
        if match is None or match[1] not in names:
            return None
        loss = f"loss_{names[match[1]]}"
        if match[2] == "dn":
            return f"{loss}_dn" if int(match[3]) == call.denoising_layers - 1 else f"{loss}_aux_dn"
        return f"{loss}_aux" if match[2] else loss

    def named(self, losses: StepLosses) -> dict[str, Any]:
        """Every layer by itself."""
        [of_class, *_] = self._names(losses.classification)
        named = self._suffixed(losses.ordinary.main, "", of_class)
        encoder, decoder = losses.ordinary.auxiliary[:1], losses.ordinary.auxiliary[1:]
        for place, layer in enumerate([*decoder, *encoder]):
            named |= self._suffixed(layer, f"_aux_{place}", of_class)
        if losses.denoising is not None:
            for place, layer in enumerate(losses.denoising.auxiliary):
                named |= self._suffixed(layer, f"_dn_{place}", of_class)
            named |= self._suffixed(losses.denoising.main, f"_dn_{losses.denoising.layers - 1}", of_class)
        return named

    def _names(self, classification: str) -> Sequence[str]:
        """What the classification loss may be called."""
        return self.class_names.get(classification, TERMS[:1])

    @staticmethod
    def _suffixed(layer: LayerLosses, suffix: str, of_class: str) -> dict[str, Any]:
        return {f"loss_{of_class if term == 'class' else term}{suffix}": loss for term, loss in layer.items()}
