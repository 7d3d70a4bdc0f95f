"""Packets: a failure in one file, with a script that shows it and needs nothing of this suite."""
