"""Tables to tables with more columns."""
