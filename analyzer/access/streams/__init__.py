"""Accesses written down one by one: which granule of which operand each thread block touches, in which order."""
