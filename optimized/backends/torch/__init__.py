"""Each step in plain torch, with SciPy's solver: what the others have to equal."""
