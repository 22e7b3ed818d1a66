"""Statements and tables to files: the page, the summary and the tables beside it. Draws, claims nothing."""
