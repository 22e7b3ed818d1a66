"""The console script and ``python -m analyzer``: an interruption counts from the first import on."""

from __future__ import annotations

import gc
import sys


def main() -> None:
    """Run the command line."""
    # imports and tables make many objects that live on: looking through them again and again costs a tenth of a report
    gc.set_threshold(50_000, 20, 50)
    try:
        from analyzer.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(1)
    finally:
        gc.freeze()  # the interpreter looks through all objects once more as it ends: that takes longer than a figure


if __name__ == "__main__":
    main()
