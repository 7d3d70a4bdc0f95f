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

    In the forms `{term}` stands for the name of a term and `{layer}` for the number of a layer.

    Attributes:
        class_names: by classification loss, what `class` may be called instead.
        box_names: what `bbox` and `giou` are called.
        main: form of the main losses.
        auxiliary: form of the auxiliary ones.
        encoder: another form for those of the encoder, which is the first layer and counts as the last auxiliary one;
            None where all layers are the decoder's.
        denoising: form of the losses of denoising queries.
        last_denoising: form of those of the last layer, which is the main one.
    """

    class_names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    box_names: Mapping[str, str] = field(default_factory=lambda: {"bbox": "bbox", "giou": "giou"})
    main: str = "loss_{term}"
    auxiliary: str = "loss_{term}_aux_{layer}"
    encoder: str | None = "loss_{term}_enc_0"
    denoising: str = "loss_{term}_dn_{layer}"
    last_denoising: str = "loss_{term}_dn_{layer}"

    def expected(self, call: Call) -> Sequence[frozenset[str]]:
        """One set for each name of the classification loss, with and without a name of its own for the encoder."""
        names = self._class_names(call.classification)
        return [
            frozenset(
                _filled(form, name, layer) for form, layer in forms for name in (of_class, *self.box_names.values())
            )
            for of_class, forms in product(names, self._forms(call))
        ]

    def canonical(self, key: str, call: Call) -> str | None:
        """Main, auxiliary or denoising, by the form of the key."""
        of_class = {*self._class_names(call.classification), *chain.from_iterable(self.class_names.values())}
        terms = dict.fromkeys(of_class, "class") | {name: term for term, name in self.box_names.items()}
        for form, part in self._parts(call.denoising_layers):
            match = re.fullmatch(_pattern(form), key)
            if match is not None and match["term"] in terms:
                return f"loss_{terms[match['term']]}{part}"
        return None

    def named(self, losses: StepLosses) -> dict[str, Any]:
        """Every layer by itself."""
        [of_class, *_] = self._class_names(losses.classification)
        auxiliary = list(losses.ordinary.auxiliary)
        if self.encoder is not None:
            auxiliary = auxiliary[1:] + auxiliary[:1]
        layers = [(self.main, 0, losses.ordinary.main)]
        layers += [(self.auxiliary, place, each) for place, each in enumerate(auxiliary)]
        if losses.denoising is not None:
            layers += [(self.denoising, place, each) for place, each in enumerate(losses.denoising.auxiliary)]
            layers.append((self.last_denoising, losses.denoising.layers - 1, losses.denoising.main))
        names = {**self.box_names, "class": of_class}
        return {_filled(form, names[term], layer): loss for form, layer, own in layers for term, loss in own.items()}

    def _forms(self, call: Call) -> list[list[tuple[str, int]]]:
        """The forms of all keys, each with its layer; twice where the encoder may have one of its own."""
        count = call.layers - 1 if call.aux_loss else 0
        denoising = [(self.denoising, layer) for layer in range(call.denoising_layers - 1)] if call.aux_loss else []
        if call.denoising_layers:
            denoising.append((self.last_denoising, call.denoising_layers - 1))
        auxiliary = [[(self.auxiliary, layer) for layer in range(count)]]
        if count and self.encoder is not None:
            auxiliary.append([*auxiliary[0][:-1], (self.encoder, 0)])
        return [[(self.main, 0), *layers, *denoising] for layers in auxiliary]

    def _parts(self, denoising_layers: int) -> list[tuple[str, str]]:
        """Every form with the canonical name of its part; the last denoising layer's comes first."""
        last = self.last_denoising.replace("{layer}", str(denoising_layers - 1))
        encoder = [] if self.encoder is None else [(self.encoder, "_aux")]
        return [(last, "_dn"), (self.main, ""), (self.auxiliary, "_aux"), *encoder, (self.denoising, "_aux_dn")]

    def _class_names(self, classification: str) -> Sequence[str]:
        """What the classification loss may be called."""
        return self.class_names.get(classification, TERMS[:1])


def _filled(form: str, term: str, layer: int) -> str:
    return form.replace("{term}", term).replace("{layer}", str(layer))


def _pattern(form: str) -> str:
    """A regular expression for the keys of a form."""
    return re.escape(form).replace(r"\{term\}", "(?P<term>[a-z_]+)").replace(r"\{layer\}", r"\d+")
