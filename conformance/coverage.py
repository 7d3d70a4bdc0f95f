"""What the rules ask a port for, option by option: least and most, and how often an end of its range is reached."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.resources import files
from typing import Any

import msgspec
import numpy as np

from detr_conformance import __version__
from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.properties.case import LossCase
from detr_conformance.properties.judging import judge
from detr_conformance.properties.port import DenoisingGroup, LossResult, Matching
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.properties.rule import Rule
from detr_conformance.properties.rules import RULES
from detr_conformance.reference.keys import TERMS

LEVELS = ("smoke", "standard")
SHARE = {"smoke": 1, "standard": 12}
"""One rule of so many is judged: tenfold cases take long, and come from the same strategies."""


class Range(msgspec.Struct, frozen=True):
    """What is promised of an option or a size: the rules ask for it from `least` to `most`.

    Attributes:
        least: a value that is asked for, or a lower one.
        most: a value that is asked for, or a higher one.
        source: who says that it may be so.
    """

    least: float
    most: float
    source: str


RANGES: Mapping[str, Range] = {
    "layers": Range(1, 7, "RT-DETR: the encoder's and six of the decoder"),
    "images": Range(1, 17, "a batch beyond 16"),
    "queries": Range(1, 900, "DINO, arXiv 2203.03605: 900 queries"),
    "classes": Range(1, 1203, "LVIS, arXiv 1908.03195: 1203 classes"),
    "targets of an image": Range(0, 300, "LVIS: a crowded image has as many"),
    "targets": Range(0, 256, "a batch beyond a byte"),
    "denoising groups": Range(0, 65, "Ultralytics: 100 // targets groups, so many for one target"),
    "denoising slots": Range(0, 256, "DINO: 100 positives and as many negatives, of a crowded image more"),
    "gamma": Range(0, 5, "Lin et al., Focal Loss, arXiv 1708.02002: tried from 0 to 5"),
    "alpha": Range(0, 1, "Lin et al., table 1; 0 is no balance in Ultralytics' focal loss"),
    **{f"gain of {term}": Range(0, 100, "a gain is a factor; 0 switches off") for term in TERMS},
    "auxiliary losses": Range(0, 1, "aux_loss"),
    "shared matching": Range(-1, 5, "uni_match_ind: any auxiliary layer of RT-DETR, -1 for none"),
    "largest logit": Range(1, 1e4, "NUM-04: logits of ten thousand and more"),
    "least box side": Range(0, 0.05, "boxes without area, and tiny ones"),
    "calls of one object": Range(2, 50, "a training run calls one object again and again"),
}
"""What the rules promise to ask for."""


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for of one option.

    Attributes:
        least: the least value, most likewise.
        at_least: number of questions at the lower end of the range or beyond it; at_most likewise.
        distinct: number of different values.
    """

    least: float
    most: float
    at_least: int
    at_most: int
    distinct: int


class Coverage(msgspec.Struct, frozen=True, kw_only=True):
    """What the base spec was asked for.

    Attributes:
        version: of the suite.
        seed: which cases were drawn.
        figures: by level and option.
        words: by level, how often each dtype, classification loss and question was asked for.
        questions: by level, how many there were.
    """

    version: str
    seed: int
    figures: dict[str, dict[str, Figures]]
    words: dict[str, dict[str, dict[str, int]]]
    questions: dict[str, int]

    def to_json(self) -> str:
        """The record as JSON text."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1).decode() + "\n"


def recorded() -> Coverage:
    """The record that the suite was released with."""
    return msgspec.json.decode((files("detr_conformance") / "coverage.json").read_bytes(), type=Coverage)


def sizes_of(case: LossCase) -> dict[str, float]:
    """The options and sizes of a case, as `RANGES` names them."""
    config, dn = case.config, case.denoising
    boxes = [case.pred_bboxes, case.gt_bboxes] if case.pred_bboxes.size else [case.gt_bboxes]
    sides = np.concatenate([each[..., 2:].ravel() for each in boxes])
    logits = np.abs(case.pred_scores)
    return {
        "layers": case.layers,
        "images": case.images,
        "queries": case.queries,
        "classes": config.nc,
        "targets of an image": max(case.gt_groups, default=0),
        "targets": case.targets,
        "denoising groups": 0 if dn is None else dn.num_group,
        "denoising slots": 0 if dn is None else dn.bboxes.shape[2],
        "gamma": config.gamma,
        "alpha": config.alpha,
        **{f"gain of {term}": config.loss_gain[term] for term in TERMS},
        "auxiliary losses": int(config.aux_loss),
        "shared matching": config.uni_match_ind if config.use_uni_match else -1,
        "largest logit": _finite(logits, np.max),
        "least box side": _finite(np.abs(sides), np.min),
    }


def _finite(numbers: np.ndarray, of: Callable[[np.ndarray], Any]) -> float:
    """The largest or least of what is finite."""
    kept = numbers[np.isfinite(numbers)]
    return float(of(kept)) if kept.size else math.nan


class Recorder(ReferencePort):
    """The reference, which counts what it is asked for."""

    def __init__(self) -> None:
        """Nothing has been asked yet."""
        super().__init__()
        self.values: dict[str, Counter[float]] = {name: Counter() for name in RANGES}
        self.words: dict[str, Counter[str]] = {name: Counter() for name in ("dtype", "classification", "question")}

    def note(self, question: str, *cases: LossCase) -> None:
        """Count the cases of a call."""
        self.words["question"][question] += 1
        for case in cases:
            self.words["dtype"][case.dtype] += 1
            self.words["classification"][case.config.classification] += 1
            for name, value in sizes_of(case).items():
                self.values[name][value] += 1

    def loss(self, case: LossCase) -> LossResult:
        """Counted."""
        self.note("loss", case)
        return super().loss(case)

    def losses_in_turn(self, cases: Sequence[LossCase]) -> Sequence[LossResult]:
        """Counted, with their number."""
        self.note("one object, several calls", *cases)
        self.values["calls of one object"][len(cases)] += 1
        return super().losses_in_turn(cases)

    def losses_of_ranks(self, cases: Sequence[LossCase]) -> Sequence[LossResult]:
        """Counted."""
        self.note("ranks", *cases)
        return super().losses_of_ranks(cases)

    def losses_of_steps(self, cases: Sequence[LossCase]) -> Sequence[LossResult]:
        """Counted."""
        self.note("micro-batches", *cases)
        return super().losses_of_steps(cases)

    def loss_in_mode(self, case: LossCase, mode: str) -> LossResult:
        """Counted by mode."""
        self.note(f"mode {mode}", case)
        return super().loss_in_mode(case, mode)

    def loss_in_situation(self, case: LossCase, situation: str) -> LossResult:
        """Counted by situation."""
        self.note(f"situation {situation}", case)
        return super().loss_in_situation(case, situation)

    def loss_built(self, case: LossCase, passing: str) -> LossResult:
        """Counted by the way to pass options."""
        self.note(f"loss by {passing}", case)
        return super().loss_built(case, passing)

    def match_built(self, case: LossCase, passing: str) -> Sequence[Sequence[Matching]]:
        """Likewise."""
        self.note(f"matcher by {passing}", case)
        return super().match_built(case, passing)

    def accumulated_gradients(self, case: LossCase, passes: Sequence[Mapping[str, float]]) -> list[dict[str, Any]]:
        """Counted by the number of backward passes."""
        self.note(f"backward passes: {len(passes)}", case)
        return super().accumulated_gradients(case, passes)

    def match(self, case: LossCase) -> Sequence[Sequence[Matching]]:
        """Counted."""
        self.note("matching", case)
        return super().match(case)

    def denoising_indices(self, case: LossCase) -> Sequence[Matching]:
        """Counted."""
        self.note("pairing of denoising queries", case)
        return super().denoising_indices(case)

    def denoising_group(self, case: LossCase) -> DenoisingGroup | None:
        """Counted."""
        self.note("generated denoising queries", case)
        return super().denoising_group(case)


def asked_for(level: str, seed: int = 0, tell: Callable[[str], None] = lambda _line: None) -> Recorder:
    """What the rules ask of the base spec's reference at a level; one rule of so many as `SHARE` says."""
    recorder = Recorder()
    for rule in _rules(recorder, level):
        outcome = judge(rule, recorder, level=level, seed=seed)
        tell(f"{rule.id} at level {level}: {outcome.verdict} on {outcome.examples} cases")
    return recorder


def _rules(port: ReferencePort, level: str) -> Iterable[Rule]:
    judged = PortUnderTest(port)
    return [rule for rule in RULES if rule.applies(judged)][:: SHARE[level]]


def figures_of(recorder: Recorder) -> dict[str, Figures]:
    """The figures of each option that anything was asked about."""
    return {name: _figures(RANGES[name], values) for name, values in recorder.values.items() if values}


def _figures(promised: Range, values: Counter[float]) -> Figures:
    known = {value: count for value, count in values.items() if not math.isnan(value)}
    return Figures(
        least=min(known),
        most=max(known),
        at_least=sum(count for value, count in known.items() if value <= promised.least),
        at_most=sum(count for value, count in known.items() if value >= promised.most),
        distinct=len(known),
    )


def measure(seed: int = 0, tell: Callable[[str], None] = lambda _line: None) -> Coverage:
    """The figures of all levels."""
    by_level = {level: asked_for(level, seed, tell) for level in LEVELS}
    return Coverage(
        version=__version__,
        seed=seed,
        figures={level: figures_of(each) for level, each in by_level.items()},
        words={
            level: {name: dict(sorted(counts.items())) for name, counts in each.words.items()}
            for level, each in by_level.items()
        },
        questions={level: each.words["question"].total() for level, each in by_level.items()},
    )


def unreached(figures: Mapping[str, Figures]) -> Iterator[str]:
    """Each end of a range that is not reached, a sentence each."""
    for name, promised in RANGES.items():
        found = figures[name]
        if not found.at_least:
            yield f"{name}: no case at or below {promised.least:g}, the least is {found.least:g}"
        if not found.at_most:
            yield f"{name}: no case at or above {promised.most:g}, the most is {found.most:g}"
