"""The sampler process with NVML played back: ``python -m tests.capture.replayed_sampler``, the scenario named in REPLAY."""

from __future__ import annotations

import os

from analyzer.capture.sampler import main
from tests.capture.replay import Replay

if __name__ == "__main__":
    main(lambda: Replay(os.environ["REPLAY"]))
