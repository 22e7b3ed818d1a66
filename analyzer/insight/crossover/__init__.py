"""What the points of a sweep say together: which model is faster where, which setting won, and where two models cross."""
