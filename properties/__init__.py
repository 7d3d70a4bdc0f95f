"""Cases, strategies and rules."""
