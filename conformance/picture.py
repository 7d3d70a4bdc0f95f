"""A picture of a case: the boxes of one image, who is matched with whom, what each pair costs, and the pairs' masks.

An SVG that needs nothing else, as wide as it is given room, in the colours that the reader's screen has.
"""

from __future__ import annotations

from dataclasses import dataclass
from xml.etree import ElementTree as ET

import numpy as np

from detr_conformance.picture_masks import draw_masks
from detr_conformance.properties import oracle
from detr_conformance.properties.case import LossCase
from detr_conformance.properties.port import Port
from detr_conformance.properties.port_under_test import PortError, PortUnderTest
from detr_conformance.reference import LossSpec, linear_sum_assignment
from detr_conformance.reference.rounding import plain
from detr_conformance.svg import LINE, MARGIN, PANEL, WIDTH, digits, rectangle, text

ROW, HEAD = 22.0, 44.0
"""Height of a row of the matrix, and the width of the names before it."""
MOST_QUERIES, MOST_TARGETS, MOST_BOXES = 10, 7, 6
"""More could not be told apart."""
FURTHEST = 1.0
"""So far beyond the image boxes are still drawn where they are; 1 is the size of the image."""

STYLE = """
.dc { --ink: #1d2733; --faint: #64707d; --grid: #c5ccd3; --target: #1a7f37; --query: #2259b5; --port: #b3470b;
  --broken: #d1134a; --paper: #ffffff;
  color: var(--ink); width: 100%; height: auto; max-width: 44rem; background: var(--paper); }
@media (prefers-color-scheme: dark) { .dc { --ink: #e7ecf1; --faint: #9fabb8; --grid: #414b56; --target: #58c274;
  --query: #82b1ff; --port: #ffa25e; --broken: #ff5c83; --paper: #14191f; } }
.dc text { font: 12px ui-sans-serif, system-ui, sans-serif; fill: currentColor; }
.dc .faint { fill: var(--faint); } .dc .middle { text-anchor: middle; } .dc .end { text-anchor: end; }
.dc .frame { fill: none; stroke: var(--grid); }
.dc .name { paint-order: stroke; stroke: var(--paper); stroke-width: 3px; }
.dc .target { fill: none; stroke: var(--target); stroke-width: 2; }
.dc .query { fill: none; stroke: var(--query); stroke-width: 1.5; stroke-dasharray: 5 3; }
.dc text.target { fill: var(--target); stroke: var(--paper); stroke-width: 3px; }
.dc text.query { fill: var(--query); stroke: var(--paper); stroke-width: 3px; stroke-dasharray: none; }
.dc .pair { fill: none; stroke: currentColor; stroke-width: 2; }
.dc .port { fill: none; stroke: var(--port); stroke-width: 2.5; stroke-dasharray: 2 3; }
.dc .cell { fill: var(--query); }
.dc .target-mask { fill: var(--target); } .dc .query-mask { fill: var(--query); }
.dc .broken-mask { fill: var(--broken); } .dc path { shape-rendering: crispEdges; }
.dc .end-of-image { fill: none; stroke: var(--faint); stroke-dasharray: 3 2; }
.dc .point { fill: var(--ink); stroke: var(--paper); stroke-width: 0.6; }
"""

Pairs = frozenset[tuple[int, int]]
"""Pairs (query, target) of one image, targets counted within it."""


@dataclass(frozen=True, eq=False)
class View:
    """What is to be seen of a case.

    Attributes:
        case: the case.
        image: which of its images.
        cost: of each of its queries and targets in the main layer.
        cheapest: the reference's matching.
        ports: the port's matching, if it has another one; None if it has the same, or tells nobody.
        note: why the port's matching is not to be seen, if it should be.
    """

    case: LossCase
    image: int
    cost: np.ndarray
    cheapest: Pairs
    ports: Pairs | None
    note: str

    @property
    def first(self) -> int:
        """The first of the image's targets, counted through the batch."""
        return int(self.case.of_image(self.image).start)

    @property
    def targets(self) -> list[int]:
        """Those that are shown, counted within the image."""
        return list(range(min(self.cost.shape[1], MOST_TARGETS)))

    @property
    def queries(self) -> list[int]:
        """Those that are shown: matched ones, and then those that would cost least."""
        least = np.argsort(self.cost.min(axis=1, initial=np.inf), kind="stable").tolist()
        return sorted(list(dict.fromkeys([*self.matched, *least]))[:MOST_QUERIES])

    @property
    def matched(self) -> list[int]:
        """Queries that exist and are matched with a target that is shown, by the reference or by the port."""
        pairs = [pair for each in (self.ports or (), self.cheapest) for pair in sorted(each)]
        return [query for query, target in pairs if target in self.targets and 0 <= query < self.case.queries]

    @property
    def drawn(self) -> list[int]:
        """Queries whose boxes are drawn: where there are many, matched ones alone."""
        chosen = self.queries if len(self.queries) <= MOST_BOXES else [q for q in self.queries if q in self.matched]
        return [query for query in chosen if np.isfinite(self.case.pred_bboxes[-1, self.image, query]).all()]


def picture(case: LossCase, profile: LossSpec, port: Port | None = None) -> str:
    """The image of a case in which most is to be seen, in the main layer, as SVG.

    Args:
        case: the case.
        profile: whose costs are shown.
        port: a port whose matching is shown beside the reference's, where it declares `match` and has another one.
    """
    view = _view(case, profile, port)
    root = ET.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "class": "dc", "role": "img"})
    ET.SubElement(root, "title").text = _headline(view)
    ET.SubElement(root, "style").text = STYLE
    height = _notes(root, view, MARGIN)
    height = _boxes(root, view, height + 6)
    height = _matrix(root, view, height + LINE)
    height = _masks(root, view, height)
    root.set("viewBox", f"0 0 {WIDTH:g} {height + 8:g}")
    return ET.tostring(root, encoding="unicode") + "\n"


def _view(case: LossCase, profile: LossSpec, port: Port | None) -> View:
    costs = [plain(cost) for cost in oracle.matching_costs(case, profile)[-1]]
    cheapest = [_pairs(solved.rows, solved.columns) for solved in map(linear_sum_assignment, costs)]
    ports, note = _of_port(case, profile, port)
    differs = [ports is not None and ports[image] != cheapest[image] for image in range(case.images)]
    image = max(range(case.images), key=lambda each: (differs[each], case.gt_groups[each], -each))
    own = ports[image] if ports is not None and differs[image] else None
    return View(case, image, costs[image], cheapest[image], own, note)


def _of_port(case: LossCase, profile: LossSpec, port: Port | None) -> tuple[list[Pairs] | None, str]:
    """The port's matching of each image, or why there is none."""
    if port is None or "match" not in port.capabilities:
        return None, ""
    try:
        layers = PortUnderTest(port, profile).match(case)
    except PortError as error:
        return None, str(error)
    if len(layers) != case.layers or len(layers[-1]) != case.images:
        return None, f"the port returned {len(layers)} matchings for {case.layers} layers"
    starts = [case.of_image(image).start for image in range(case.images)]
    return [_pairs(rows, columns - start) for (rows, columns), start in zip(layers[-1], starts, strict=True)], ""


def _pairs(queries: np.ndarray, targets: np.ndarray) -> Pairs:
    return frozenset(zip(queries.tolist(), targets.tolist(), strict=False))


def _headline(view: View) -> str:
    case = view.case
    queries, targets = _counted(case.queries, "query", "queries"), _counted(view.cost.shape[1], "target", "targets")
    return f"Image {view.image} of {case.images}, main layer: {queries}, {targets}"


def _notes(root: ET.Element, view: View, top: float) -> float:
    """What is to be seen and what is not, line by line; how far down it goes."""
    lines = [_headline(view)]
    hidden = view.case.queries - len(view.queries), view.cost.shape[1] - len(view.targets)
    if any(hidden):
        queries, targets = _counted(hidden[0], "query", "queries"), _counted(hidden[1], "target", "targets")
        lines.append(f"not shown: {queries}, {targets}")
    lines += _about_boxes(view)
    if view.note:
        lines.append(view.note[:60])
    for place, line in enumerate(lines):
        text(root, MARGIN, top + place * LINE, line, "" if place == 0 else "faint")
    return top + (len(lines) - 1) * LINE


def _about_boxes(view: View) -> list[str]:
    """Which queries have no box in the picture, and which are not where they are drawn."""
    boxes = view.case.pred_bboxes[-1, view.image]
    broken = [query for query in view.queries if not np.isfinite(boxes[query]).all()]
    far = [query for query in view.drawn if (np.abs(boxes[query, :2] - 0.5) > 0.5 + FURTHEST).any()]
    unmatched = [query for query in view.queries if query not in (*view.drawn, *broken)]
    kinds = (("not finite", broken), ("further away than drawn", far), ("not drawn, as not matched", unmatched))
    return [f"{', '.join(f'q{query}' for query in queries)}: {kind}" for kind, queries in kinds if queries]


def _counted(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"


def _boxes(root: ET.Element, view: View, top: float) -> float:
    """Targets and predictions where they are in the image, and lines between those that are matched."""
    own = view.case.gt_bboxes[view.case.of_image(view.image)]
    boxes = view.case.pred_bboxes[-1, view.image]
    shown = [(f"q{query}", boxes[query], "query") for query in view.drawn]
    shown += [(f"t{view.first + target}", own[target], "target") for target in view.targets]
    plane = _Plane.around([box for _, box, _ in shown], top)
    (left, upper), (right, lower) = plane.at(0.0, 0.0), plane.at(1.0, 1.0)
    rectangle(root, left, upper, right - left, lower - upper, "frame")
    for _, box, kind in shown:
        rectangle(root, *plane.corner(box), *plane.size(box), kind)
    for pairs, kind in ((view.cheapest, "pair"), (view.ports or (), "port")):
        for query, target in sorted(pairs):
            if query in view.drawn and target in view.targets:
                ends = (*plane.at(*boxes[query, :2]), *plane.at(*own[target, :2]))
                names = dict(zip(("x1", "y1", "x2", "y2"), map(digits, ends), strict=True))
                ET.SubElement(root, "line", {**names, "class": kind})
    for name, box, kind in shown:
        _box_name(root, plane, name, box, kind)
    return _legend(root, view, top + PANEL + LINE)


def _box_name(root: ET.Element, plane: _Plane, name: str, box: np.ndarray, kind: str) -> None:
    """Names of targets above their upper left corner, of queries below the lower right one, all within the panel."""
    (x, y), (width, height) = plane.corner(box), plane.size(box)
    if kind == "query":
        x, y = x + width - 6.0 * len(name), y + height + 13.0
    else:
        y -= 4.0
    x = min(max(x, MARGIN), MARGIN + PANEL - 7.0 * len(name))
    text(root, x, min(max(y, plane.top + 11.0), plane.top + PANEL - 2.0), name, f"name {kind}")


def _legend(root: ET.Element, view: View, top: float) -> float:
    """What the lines mean."""
    entries = [("target", "target"), ("query", "prediction"), ("pair", "cheapest pair")]
    entries += [("port", "pair of the port")] if view.ports is not None else []
    place = float(MARGIN)
    for kind, words in entries:
        names = {"x1": digits(place), "x2": digits(place + 16), "y1": digits(top - 4), "y2": digits(top - 4)}
        ET.SubElement(root, "line", {**names, "class": kind})
        text(root, place + 20, top, words, "faint")
        place += 30 + 6.0 * len(words)
    return top


def _matrix(root: ET.Element, view: View, top: float) -> float:
    """The cost of every pair that is shown: the cheaper, the stronger the colour; matched ones are framed."""
    if not view.targets:
        text(root, MARGIN, top + LINE, "no targets: nothing is matched", "faint")
        return top + LINE
    text(root, MARGIN, top + 6, "cost of each pair", "")
    top += LINE
    width = min((PANEL - HEAD) / len(view.targets), 64.0)
    for place, target in enumerate(view.targets):
        text(root, MARGIN + HEAD + (place + 0.5) * width, top + 10, f"t{view.first + target}", "target name middle")
    top += LINE
    for row, query in enumerate(view.queries):
        text(root, MARGIN + HEAD - 6, top + (row + 0.7) * ROW, f"q{query}", "query name end")
        for place, target in enumerate(view.targets):
            _cell(root, view, (query, target), MARGIN + HEAD + place * width, top + row * ROW, width)
    return top + len(view.queries) * ROW


def _cell(root: ET.Element, view: View, pair: tuple[int, int], x: float, y: float, width: float) -> None:
    shown = view.cost[np.ix_(view.queries, view.targets)]
    span = float(np.ptp(shown)) or 1.0
    strength = 0.06 + 0.5 * (float(shown.max()) - float(view.cost[pair])) / span
    cell = rectangle(root, x + 1, y + 1, width - 2, ROW - 2, "cell")
    cell.set("fill-opacity", f"{strength:.2f}")
    if pair in view.cheapest:
        rectangle(root, x + 2, y + 2, width - 4, ROW - 4, "pair")
    if view.ports is not None and pair in view.ports:
        rectangle(root, x + 4.5, y + 4.5, width - 9, ROW - 9, "port")
    text(root, x + width / 2, y + 0.7 * ROW, f"{float(view.cost[pair]):.3g}", "middle")


def _masks(root: ET.Element, view: View, top: float) -> float:
    """Those of the cheapest pairs that are shown, if the case has masks; how far down they go."""
    masks = view.case.masks
    pairs = sorted((target, query) for query, target in view.cheapest if target in view.targets)
    if masks is None or not pairs:
        return top
    shown = [(query, view.first + target) for target, query in pairs]
    return draw_masks(root, masks, view.image, shown, top + 1.5 * LINE)


@dataclass(frozen=True)
class _Plane:
    """Where the numbers of boxes lie on the paper.

    Attributes:
        low: the smallest coordinate that is shown, of either axis.
        scale: units of paper for the size of the image.
        top: of the panel.
    """

    low: float
    scale: float
    top: float

    @staticmethod
    def around(boxes: list[np.ndarray], top: float) -> _Plane:
        """The image, and as much around it as these boxes need."""
        edges = [box[:2] + sign * np.abs(box[2:]) / 2 for box in boxes for sign in (-1.0, 1.0)]
        reach = np.clip(np.array([*edges, np.zeros(2), np.ones(2)]), -FURTHEST, 1.0 + FURTHEST)
        low, high = float(reach.min()), float(reach.max())
        return _Plane(low, PANEL / (high - low), top)

    def at(self, x: float, y: float) -> tuple[float, float]:
        """A point on the paper."""
        x, y = (min(max(float(each), -FURTHEST), 1.0 + FURTHEST) for each in (x, y))
        return MARGIN + (x - self.low) * self.scale, self.top + (y - self.low) * self.scale

    def corner(self, box: np.ndarray) -> tuple[float, float]:
        """The upper left corner of a box."""
        return self.at(*(box[:2] - np.abs(box[2:]) / 2))

    def size(self, box: np.ndarray) -> tuple[float, float]:
        """Width and height of a box, as much of it as is shown."""
        left, upper = self.corner(box)
        right, lower = self.at(*(box[:2] + np.abs(box[2:]) / 2))
        return right - left, lower - upper
