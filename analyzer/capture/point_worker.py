"""One point of a sweep in a fresh process: ``python -m analyzer.capture.point_worker`` runs one capture.

It reads one JSON line from stdin (``choice``, ``settings``, ``token``, ``path``) and writes the name of the run directory, or
the error, to the file ``path``. Its unfinished run directory has ``token`` in its name, so that the parent finds what a crash
left. It ends when stdin closes: then its parent is gone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from analyzer.capture.answers import serve
from analyzer.capture.counting import count
from analyzer.capture.session import capture
from analyzer.progress import Reporter
from analyzer.schema.settings import CaptureSettings, ModelChoice
from analyzer.trace import rundir


def run(request: dict[str, Any]) -> str:
    """Capture as ``request`` says; return the name of the run directory."""
    rundir.mark_parts(str(request["token"]))
    given = dict(request["settings"])
    given |= {"out_root": Path(given["out_root"]), "command": tuple(given["command"])}
    choice, settings, reporter = ModelChoice(**request["choice"]), CaptureSettings(**given), Reporter(quiet=True)
    path = capture(choice, settings, reporter)
    count([(path, choice)], settings, reporter)
    return path.name


def main() -> None:
    """Run the process."""
    serve(run)


if __name__ == "__main__":
    main()
