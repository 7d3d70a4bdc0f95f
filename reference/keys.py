"""Keys: the names of the losses."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, combinations, product
from typing import Any, NamedTuple

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
        auxiliary_sum: of the auxiliary layers together.
        layers: number of layers, the main one included.
    """

    main: LayerLosses
    auxiliary: Sequence[LayerLosses]
    auxiliary_sum: LayerLosses
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
            zeros = dict.fromkeys([*self.ordinary.main, *self.ordinary.auxiliary_sum], np.zeros(()))
            main, auxiliary = ({}, {}) if part is None else (part.main, part.auxiliary_sum)
            losses |= {f"loss_{term}{suffix}": loss for term, loss in (zeros | dict(main)).items()}
            if self.aux_loss:
                losses |= {f"loss_{term}_aux{suffix}": loss for term, loss in (zeros | dict(auxiliary)).items()}
        return losses


@dataclass(frozen=True)
class LayersOfTerm:
    """The layers that have an extra term.

    Attributes:
        ordinary: of ordinary queries, counted from 0.
        denoising: of denoising queries.
    """

    ordinary: frozenset[int]
    denoising: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Call:
    """What decides which keys a call returns.

    Attributes:
        layers: number of layers of ordinary queries.
        aux_loss: auxiliary losses are asked for.
        denoising_layers: number of layers of denoising queries; 0 without any.
        classification: name of the classification loss that is asked for.
        extra: extra terms of the call, each with the layers that have it.
        optional: those that may have it, or may leave it out because it is 0.
    """

    layers: int
    aux_loss: bool
    denoising_layers: int
    classification: str
    extra: Mapping[str, LayersOfTerm] = field(default_factory=dict)
    optional: Mapping[str, LayersOfTerm] = field(default_factory=dict)


class KeyTable(ABC):
    """The names of the losses.

    A canonical key is `loss_class`, `loss_bbox`, `loss_giou`, or `loss_` and the name of an extra term; with `_aux` for
    the auxiliary layers together; with `_dn` last for the denoising queries.
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
    """The canonical keys themselves; without denoising queries, theirs are zero."""

    def expected(self, call: Call) -> Sequence[frozenset[str]]:
        """Twelve keys, or six without auxiliary losses; for each extra term as many."""
        parts = ("", "_dn", *(("_aux", "_aux_dn") if call.aux_loss else ()))
        return [frozenset(f"loss_{term}{part}" for term in (*TERMS, *call.extra) for part in parts)]

    def canonical(self, key: str, call: Call) -> str | None:
        """The key itself, if it is one."""
        return key if re.fullmatch(rf"loss_({'|'.join((*TERMS, *call.extra))})(_aux)?(_dn)?", key) else None

    def named(self, losses: StepLosses) -> dict[str, Any]:
        """The sums."""
        return losses.sums()


class _Place(NamedTuple):
    """A layer that has keys.

    Attributes:
        form: of its keys.
        number: what stands for the layer in them.
        layer: the layer.
        is_denoising: it is one of denoising queries.
    """

    form: str
    number: int
    layer: int
    is_denoising: bool = False


@dataclass(frozen=True)
class LayerKeys(KeyTable):
    """One key for each layer: `loss_vfl`, `loss_vfl_aux_0`, …, `loss_vfl_dn_0`, …; none for what is not there.

    In the forms `{term}` stands for the name of a term and `{layer}` for the number of a layer.

    Attributes:
        class_names: by classification loss, what `class` may be called instead.
        box_names: what `bbox` and `giou` are called, and extra terms that do not go by their own names.
        main: form of the main losses.
        auxiliary: form of the auxiliary ones.
        encoder: another form for those of the encoder, which is the first layer and counts as the last auxiliary one;
            None where all layers are the decoder's.
        denoising: form of the losses of denoising queries.
        last_denoising: form of those of the last layer, which is the main one.

    Raises:
        ValueError: no key can be read by a form, or a name is missing.
    """

    class_names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    box_names: Mapping[str, str] = field(default_factory=lambda: {"bbox": "bbox", "giou": "giou"})
    main: str = "loss_{term}"
    auxiliary: str = "loss_{term}_aux_{layer}"
    encoder: str | None = "loss_{term}_enc_0"
    denoising: str = "loss_{term}_dn_{layer}"
    last_denoising: str = "loss_{term}_dn_{layer}"

    def __post_init__(self) -> None:
        """Refuse forms and names that no key can be read by."""
        for name in ("main", "auxiliary", "encoder", "denoising", "last_denoising"):
            form = getattr(self, name)
            if form is not None and (form.count("{term}") != 1 or form.count("{layer}") > 1):
                raise ValueError(f"{name} is {form!r}, expected one {{term}} in it, and at most one {{layer}}")
        for loss, names in self.class_names.items():
            if not names:
                raise ValueError(f"class_names[{loss!r}] is empty, expected at least one name")
        for term in TERMS[1:]:
            if term not in self.box_names:
                raise ValueError(f"box_names is {dict(self.box_names)} and lacks {term!r}")

    def expected(self, call: Call) -> Sequence[frozenset[str]]:
        """One set for each name of the classification loss, with and without a name of its own for the encoder.

        And with and without each extra loss that may be left out.
        """
        return [
            frozenset([*self._needed(call, of_class, places), *more])
            for of_class, places in product(self._class_names(call.classification), self._places(call))
            for more in _selections(self._extra_keys(call.optional, places))
        ]

    def _needed(self, call: Call, of_class: str, places: Sequence[_Place]) -> list[str]:
        """The keys that must be there, by a name of the classification loss."""
        shared = (of_class, *(self.box_names[term] for term in TERMS[1:]))
        own = [_filled(place.form, name, place.number) for place in places for name in shared]
        return own + self._extra_keys(call.extra, places)

    def canonical(self, key: str, call: Call) -> str | None:
        """Main, auxiliary or denoising, by the form of the key."""
        of_class = {*self._class_names(call.classification), *chain.from_iterable(self.class_names.values())}
        others = dict.fromkeys((*TERMS[1:], *call.extra))
        terms = dict.fromkeys(of_class, "class") | {self.box_names.get(term, term): term for term in others}
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
        return {
            _filled(form, names.get(term, term), layer): loss
            for form, layer, own in layers
            for term, loss in own.items()
        }

    def _places(self, call: Call) -> list[list[_Place]]:
        """Where there are losses; twice where the encoder may have a form of its own."""
        last, last_denoising = call.layers - 1, call.denoising_layers - 1
        numbers = range(last if call.aux_loss else 0)
        denoising = [_Place(self.denoising, each, each, True) for each in range(last_denoising) if call.aux_loss]
        if call.denoising_layers:
            denoising.append(_Place(self.last_denoising, last_denoising, last_denoising, True))
        first = 0 if self.encoder is None else 1  # of the decoder
        auxiliary = [[_Place(self.auxiliary, each, (each + first) % last) for each in numbers]]
        if numbers and self.encoder is not None:
            auxiliary.append([*auxiliary[0][:-1], _Place(self.encoder, 0, 0)])
        return [[_Place(self.main, 0, last), *each, *denoising] for each in auxiliary]

    def _extra_keys(self, extra: Mapping[str, LayersOfTerm], places: Sequence[_Place]) -> list[str]:
        """The keys of extra terms."""
        return [
            _filled(place.form, self.box_names.get(term, term), place.number)
            for place in places
            for term, layers in extra.items()
            if place.layer in (layers.denoising if place.is_denoising else layers.ordinary)
        ]

    def _parts(self, denoising_layers: int) -> list[tuple[str, str]]:
        """Every form with the canonical name of its part; the last denoising layer's comes first."""
        last = self.last_denoising.replace("{layer}", str(denoising_layers - 1))
        encoder = [] if self.encoder is None else [(self.encoder, "_aux")]
        return [(last, "_dn"), (self.main, ""), (self.auxiliary, "_aux"), *encoder, (self.denoising, "_aux_dn")]

    def _class_names(self, classification: str) -> Sequence[str]:
        """What the classification loss may be called."""
        return self.class_names.get(classification, TERMS[:1])


def _selections(keys: Sequence[str]) -> Iterable[tuple[str, ...]]:
    """Every choice of some of these keys."""
    return chain.from_iterable(combinations(keys, count) for count in range(len(keys) + 1))


def _filled(form: str, term: str, layer: int) -> str:
    return form.replace("{term}", term).replace("{layer}", str(layer))


def _pattern(form: str) -> str:
    """A regular expression for the keys of a form."""
    return re.escape(form).replace(r"\{term\}", "(?P<term>[a-z_]+)").replace(r"\{layer\}", r"\d+")
