"""The report on predictions held against hardware counters."""
