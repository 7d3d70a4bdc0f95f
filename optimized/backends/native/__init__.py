"""Each step compiled for the CPU by numba: one pass over what it reads, and no operator of torch in between.

The work of a step is cut by layers and images, which threads take without waiting for each other. float64 goes through
plain torch, but for the solver.
"""
