"""Runs a model on a device and writes a run directory: the only part that knows torch, timm, NVML and psutil.

Importing this package imports no torch: the telemetry process lives in it and must stay small.
"""

import os

# Both are read when torch loads, so this is the one place for them. Kineto's and torch's C++ messages go to stderr
# otherwise, between the lines of the progress. What the user has set stays.
os.environ.setdefault("KINETO_LOG_LEVEL", "6")
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
