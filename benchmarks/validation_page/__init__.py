"""Writes docs/validation.md: what the reference runs measured beside what the models say, misses included."""
