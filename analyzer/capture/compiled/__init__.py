"""What torch.compile makes of a model: recorded while it compiles, written as ``compiled.json.gz``."""

from analyzer.capture.compiled.recording import Recorder, recording

__all__ = ["Recorder", "recording"]
