"""Faults, injected into a network that works: what can go wrong around an operator, and what must come of it."""
