"""Where Triton has no GPU, it interprets: that is decided when the first kernel is imported, so before every test."""

from __future__ import annotations

import os

import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
