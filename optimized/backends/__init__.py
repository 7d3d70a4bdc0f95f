"""The steps that are worth code of their own, each in plain torch, in numba for the CPU and in Triton for CUDA.

The same step has the same file name in each. `protocol` says what a backend has, `choice` who computes where.
"""
