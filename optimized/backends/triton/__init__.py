"""Triton kernels; each computes what a function of plain torch or scipy states, and is imported when first needed."""
