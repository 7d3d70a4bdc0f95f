"""Targets of real images, from whichever format a path holds."""

from __future__ import annotations

import os
from pathlib import Path

from detr_conformance import coco
from detr_conformance.image_targets import CocoTargets
from detr_conformance.yolo_labels import SUFFIX, read_labels


def read_targets(path: str | os.PathLike[str]) -> CocoTargets:
    """The targets in a COCO annotations file, or in a folder of YOLO label files.

    Raises:
        TargetsFileError: it cannot be used; one sentence says why, where and what to do.
    """
    path = Path(path)
    # One label file alone goes to the reader of labels too, which says that it wants the folder.
    return read_labels(path) if path.is_dir() or path.suffix.lower() == SUFFIX else coco.read_targets(path)
