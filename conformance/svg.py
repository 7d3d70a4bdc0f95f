"""What an SVG of ours is drawn with: its measures, rectangles and text."""

from __future__ import annotations

from xml.etree import ElementTree as ET

WIDTH, MARGIN, PANEL, LINE = 400.0, 20.0, 360.0, 17.0
"""Widths of the picture, of its margins and of what is between them, and the height of a line of text."""


def rectangle(root: ET.Element, x: float, y: float, width: float, height: float, kind: str) -> ET.Element:
    """Draw a rectangle from its upper left corner."""
    numbers = dict(zip(("x", "y", "width", "height"), map(digits, (x, y, width, height)), strict=True))
    return ET.SubElement(root, "rect", {**numbers, "class": kind})


def text(root: ET.Element, x: float, y: float, words: str, kind: str) -> None:
    """Write a line; what cannot be printed becomes a question mark."""
    element = ET.SubElement(root, "text", {"x": digits(x), "y": digits(y), "class": kind})
    element.text = "".join(each if each.isprintable() else "?" for each in words)


def digits(number: float) -> str:
    """A length as the file holds it."""
    return f"{number:.1f}"
