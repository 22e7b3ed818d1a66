"""Numbers to statements; no HTML, no plots."""
