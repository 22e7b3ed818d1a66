"""Measurements of the trace engine against other analyzers: whole processes, answers compared."""
