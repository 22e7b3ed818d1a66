"""What the figures draw and their tables list, computed once for both."""
