"""The DETR / RT-DETR training loss in torch, as fast as the hardware allows; equal to the reference.

A drop-in for Ultralytics' classes of the same names. `RTDETRDetectionLoss` and `get_cdn_group` are what a trainer uses.
All decoder layers, images and denoising queries of a step are one batch. The steps that cost time are in `backends`: in
plain torch, compiled by numba for the CPU, and in Triton for CUDA.
"""

from detr_conformance.optimized.assignment import linear_sum_assignment
from detr_conformance.optimized.boxes import bbox_iou
from detr_conformance.optimized.denoising import get_cdn_group
from detr_conformance.optimized.detr_loss import DETRLoss
from detr_conformance.optimized.focal import FocalLoss, VarifocalLoss
from detr_conformance.optimized.matcher import HungarianMatcher
from detr_conformance.optimized.rtdetr_loss import RTDETRDetectionLoss

__all__ = [
    "DETRLoss",
    "FocalLoss",
    "HungarianMatcher",
    "RTDETRDetectionLoss",
    "VarifocalLoss",
    "bbox_iou",
    "get_cdn_group",
    "linear_sum_assignment",
]
