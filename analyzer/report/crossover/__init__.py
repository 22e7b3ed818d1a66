"""The crossover report: a sweep as one page and the files beside it."""
