"""Diagnosis: at which step a port and the reference part, and which known mistake explains it."""
