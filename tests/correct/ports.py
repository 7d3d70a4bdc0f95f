"""Ports that are correct and built differently: none of them may ever be accused."""

from __future__ import annotations

from .adapter import CorrectPort
from .autograd_function import AutogradFunction
from .chunked import InChunks, LayersInThreads
from .constant_zeros import ConstantZeros
from .criterion_ports import CRITERIA
from .focal_only import FocalOnlyPort
from .functional import FunctionalPort
from .list_of_dicts import ListOfDicts
from .numpy_port import NumPyPort
from .one_batch import OneBatch
from .one_hot_free import OneHotFree
from .other_box_forms import WithoutCorners
from .other_class_forms import ByProbabilityOfTruth, InLogarithms
from .other_precisions import AutocastLeftAlone, ByProducts, DoubleInside, DoubleLosses, HalfElementwise, HalfTargets
from .other_solvers import SOLVERS, randomly_ordered, solved_by
from .other_sums import Atomic, Exact, Reversed
from .padded_targets import PaddedTargets
from .plain_loss import PlainLoss
from .pure_python import PurePythonPort
from .reused_buffers import ReusedBuffers
from .rows_ports import ROWS
from .rtdetr_layers import RTDETRLayersPort
from .rtdetr_v2 import RTDETRv2Port

CORRECT = (
    CorrectPort("plain-torch", PlainLoss),
    CorrectPort("one-hot-free", OneHotFree),
    CorrectPort("without-corners", WithoutCorners),
    CorrectPort("in-logarithms", InLogarithms),
    CorrectPort("by-the-probability-of-the-truth", ByProbabilityOfTruth),
    CorrectPort("reversed-sums", Reversed),
    CorrectPort("sums-in-random-order", Atomic, without={"concurrent"}),
    CorrectPort("exact-sums", Exact),
    CorrectPort("reused-buffers", ReusedBuffers, without={"concurrent"}),
    CorrectPort("in-chunks", InChunks),
    CorrectPort("layers-in-threads", LayersInThreads),
    CorrectPort("double-losses", DoubleLosses),
    CorrectPort("double-inside", DoubleInside),
    CorrectPort("half-elementwise", HalfElementwise),
    CorrectPort("half-targets", HalfTargets),
    CorrectPort("autocast-left-alone", AutocastLeftAlone),
    CorrectPort("by-products-of-matrices", ByProducts),
    CorrectPort("constant-zeros", ConstantZeros),
    CorrectPort("one-batch", OneBatch),
    *(CorrectPort(name, solved_by(solve)) for name, solve in SOLVERS.items()),
    CorrectPort("random-order-of-matching", randomly_ordered, without={"concurrent"}),
    CorrectPort("padded-targets", PaddedTargets),
    CorrectPort("numpy-in-autograd-function", AutogradFunction),
    FunctionalPort(),
    NumPyPort(),
    PurePythonPort(),
    FocalOnlyPort(),
    RTDETRLayersPort(),
    RTDETRv2Port(),
    ListOfDicts(),
    *CRITERIA,
    *ROWS,
)
