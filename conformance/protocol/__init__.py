"""A port in a process of its own, in whatever language: lines of JSON on standard streams. See docs/any-language.md.

`messages` is what both sides write and read, `command_port` asks such a process, and `serving` is one in Python.
"""
