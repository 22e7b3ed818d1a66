"""Fuzzing of the trace reader: generated hostile inputs, and a coverage-guided run."""
