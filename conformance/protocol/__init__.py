"""A port in a process of its own, in whatever language: lines of JSON on standard streams. See docs/any-language.md.

`messages` is what both sides write and read, `replies` what comes back. `process` asks such a process, over its
`streams`, and `command_port` makes a port of it; `serving` is one in Python.
"""
