"""The original and its mutants as ports."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from types import ModuleType

from ..correct.adapter import CorrectPort

MODULES = ("original_loss", "original_denoising")
"""Of these mutants are made."""


class MutatedPort(CorrectPort):
    """The original with one of its modules replaced; it also tells probes the defaults of its constructors."""

    def __init__(self, name, trees):
        loss, denoising = (module_of(each, trees.get(each) or tree_of(each)) for each in MODULES)
        super().__init__(name, loss.RTDETRDetectionLoss, denoising.get_cdn_group)

    def defaults(self, case):
        """What a loss has to which only the choice of the classification loss was passed."""
        loss = self.loss_class(nc=case.config.nc, use_fl=case.config.use_fl, use_vfl=case.config.use_vfl)
        return {
            "gamma": loss.gamma,
            "alpha": loss.alpha,
            "loss_gain": loss.loss_gain,
            "cost_gain": loss.matcher.cost_gain,
            "cost_alpha": loss.matcher.alpha,
            "cost_gamma": loss.matcher.gamma,
        }


@cache
def source_of(name):
    return (Path(__file__).parent / f"{name}.py").read_text()


@cache
def tree_of(name):
    """The module as a tree, which nobody may change."""
    return ast.parse(source_of(name))


def module_of(name, tree):
    """A module that is run from a tree."""
    module = ModuleType(name)
    exec(compile(tree, f"{name}.py", "exec"), module.__dict__)  # noqa: S102  # the tree is made of our own source
    return module


def original():
    """The original, unchanged."""
    return MutatedPort("original", {})
