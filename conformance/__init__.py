"""Judges ports of the DETR / RT-DETR training loss."""
