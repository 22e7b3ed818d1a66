"""A log directory for TensorBoard: a copy of each trace for its profiler plugin, and the analyzer's figures as scalars."""

from analyzer.report.tensorboard.logdir import LogRun, Profile, is_logdir, write_logdir

__all__ = ["LogRun", "Profile", "is_logdir", "write_logdir"]
