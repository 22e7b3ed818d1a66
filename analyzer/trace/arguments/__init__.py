"""Which argument of an operator is what: one reader per family, for the work formulas and for the access model."""
