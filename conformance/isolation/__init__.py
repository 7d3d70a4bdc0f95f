"""Isolation: a port that crashes, hangs, floods the output or changes process state fails one rule, not the run.

Rules are judged in worker processes of pytest-xdist. `worker` contains what the port does in one of them, `workers`
watches them from the main process, and `exit_log` is the file that a worker leaves when it ends early.
"""
