"""Ports that come with the suite, and the adapters that they are made of."""
