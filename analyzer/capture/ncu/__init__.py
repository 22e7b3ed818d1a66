"""Hardware counters from Nsight Compute: the model runs once under ``ncu`` for each group of counters that fits one pass.

``provider`` decides beforehand what can be counted and then counts; ``locate`` finds the program, ``releases`` knows which one
a chip needs, ``command`` has the two command lines, ``supervise`` and ``keeper`` start and end them, ``page`` reads and joins
what they print, ``failure`` says in words why nothing came. The program that is counted is ``analyzer.capture.counted``.
None of it has run on a GPU: options and texts follow the Nsight Compute CLI manual and public logs.
"""
