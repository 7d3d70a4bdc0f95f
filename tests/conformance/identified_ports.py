"""Ports to be identified: hybrids of the family, ports that lack something, and ports that answer nothing."""

from __future__ import annotations

import os
import random
import time
from dataclasses import replace
from itertools import islice

import numpy as np

from detr_conformance.identify.cases import CaseMaker
from detr_conformance.identify.decisions import decisions
from detr_conformance.identify.questions import questions
from detr_conformance.identify.searching import alike_on
from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.properties.case import CLASSIFICATION, LossConfig
from detr_conformance.properties.port import LossResult
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.properties.request import Request
from detr_conformance.properties.strategies import Domain
from detr_conformance.reference import FAMILY, RTDETR, ULTRALYTICS, replace_in

HYBRIDS = 30


def hybrid(number):
    """A member of the family with two to four fields of others."""
    rng, every = random.Random(number), decisions()  # noqa: S311  # no secret
    spec = FAMILY[rng.choice(list(FAMILY))]
    paths = [path for path in sorted(every) if every[path].place_of(spec) is not None]
    left = rng.randint(2, 4)
    for path in rng.sample(paths, len(paths)):
        own, decision = every[path].place_of(spec), every[path]
        others = [
            each
            for place, each in enumerate(decision.alternatives)
            if place != own and each.source.startswith("FAMILY")
        ]
        mixed = rng.choice(others).put_in(spec, path) if others and left else spec
        if mixed is not spec and _has_its_terms(mixed):
            spec, left = mixed, left - 1
    return replace(spec, name=f"hybrid-{number}")


def _has_its_terms(spec):
    """Whether a spec chooses no classification loss that it lacks."""
    configs = [LossConfig(**CLASSIFICATION[kind]) for kind in spec.class_terms]
    return all(spec.choose_class_term(config, pairs) in spec.class_terms for config in configs for pairs in (0, 1))


def wrong_fields(search, spec):
    """Fields of which an identification says something that is not what the spec does."""
    places = {path: search.decisions[path].place_of(spec) for path in search.outcomes if search.is_declared(path)}
    off = [path for path, place in places.items() if place is not None and place not in search.left[path]]
    return [path for path in off if not all(_answers_alike(search, spec, path, place) for place in search.left[path])]


def _answers_alike(search, spec, path, place):
    """Whether a spec would answer the same with another alternative at a path."""
    other = search.decisions[path].alternatives[place].put_in(spec, path)
    maker = replace(CaseMaker.of(PortUnderTest(ReferencePort(), spec)), kind=min(search.terms))
    maker = replace(maker, domain=replace(Domain(), classification=frozenset(search.terms)))
    return all(
        alike_on(case, question.names(case), spec, [other])
        for question in questions(lambda _: True, maker)
        for case in islice(question.cases(), question.patience)
    )


def of_each_kind(spec):
    """Ordinary cases of every classification loss that a spec has."""
    return Request(classification=tuple(spec.class_terms), layers=(3, 3), queries=(2, 5), targets=(0, 2), special=())


class Lacking(ReferencePort):
    """A port of a spec that does not declare everything."""

    def __init__(self, spec, *lacks, **options):
        super().__init__(spec, "lacking")
        self.capabilities = ReferencePort.capabilities - set(lacks)
        self.options = options


def l1_of_sizes(boxes, wanted, _guard):
    """A mistake: centres are left out."""
    return np.sum(np.abs(boxes - wanted)[..., 2:], axis=-1)


class Raising(ReferencePort):
    """Does not work at all."""

    def loss(self, _case):
        raise RuntimeError("no such thing")


class Hanging(ReferencePort):
    """Never answers a call without targets."""

    def loss(self, case):
        if not case.targets:
            time.sleep(3600)
        return super().loss(case)


class Crashing(ReferencePort):
    """Ends its process."""

    def loss(self, _case):
        os._exit(3)


class Garbling(ReferencePort):
    """Returns losses that mean nothing."""

    def loss(self, _case):
        return LossResult({"total": np.array(np.nan), "loss": np.ones(())})


class Breaking(ReferencePort):
    """Returns something else than losses."""

    def loss(self, _case):
        return "0.25"


without_gradients = Lacking(RTDETR, "gradients")
without_match = Lacking(RTDETR, "match", "denoising_group", "query_groups")
raising, hanging, crashing, garbling, breaking = (
    each(ULTRALYTICS, each.__name__.lower()) for each in (Raising, Hanging, Crashing, Garbling, Breaking)
)
mistaken = ReferencePort(replace_in(ULTRALYTICS, "box_terms.bbox", l1_of_sizes))
mixed = ReferencePort(hybrid(1))
without_masks = Lacking(FAMILY["detr"], "masks", "mask_points")
without_ia_bce = Lacking(FAMILY["deformable"], "ia_bce", "query_groups", "denoising", "denoising_group")
astray = ReferencePort(RTDETR, "astray", profile=ULTRALYTICS)
