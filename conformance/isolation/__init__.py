"""Isolation: a port that crashes, hangs, floods or meddles gets `error` for that rule, and the run goes on.

Rules are judged in worker processes of pytest-xdist. `worker` contains what the port does in one of them, `workers`
watches them from the process that was started, and `last_words` is what a process leaves behind when it ends.
"""
