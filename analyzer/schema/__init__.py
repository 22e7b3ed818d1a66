"""The types that travel between the parts."""
