"""Identification: which convention a port follows, decision by decision."""
