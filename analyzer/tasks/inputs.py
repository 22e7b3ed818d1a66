"""What tasks have in common: the runs that were named, the user's own sheet, the directory of a report, plans as lines."""

from __future__ import annotations

import datetime
import glob
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from analyzer.errors import ConfigError
from analyzer.schema.run import shown_name
from analyzer.schema.settings import Settings

if TYPE_CHECKING:
    from analyzer.hardware.sheet import GpuSheet
    from analyzer.trace.rundir import NewDirectory

REPORT_FILES = {
    "index.html",
    "summary.json",
    "kernels.csv",
    "operators.csv",
    "modules.csv",
    "ledger.csv",
    "access.csv",
    "operator_tree.csv",
    "module_tree.csv",
    "launches.csv.gz",
}  # fmt: skip


def expand_runs(given: tuple[str, ...]) -> list[Path]:
    """Return the run directories and trace files that ``runs=`` names.

    Raises:
        ConfigError: nothing was given, or a glob matches nothing.
    """
    if not given:
        raise ConfigError("runs= is missing", "give a run directory, a trace file, a list or a glob: runs=traces/X")
    found: list[Path] = []
    for text in given:
        if not glob.has_magic(text) or Path(text).exists():
            found.append(Path(text))
            continue
        matches = sorted(Path(m) for m in glob.glob(text))  # noqa: PTH207  Path.glob takes no absolute pattern
        usable = [m for m in matches if (m / "run.json").is_file() or (m.is_file() and ".json" in m.suffixes)]
        if not usable:
            raise ConfigError(f"no run or trace matches {text}", "run `analyzer` to record one")
        found += usable
    return found


def is_report(directory: Path) -> bool:
    """Tell whether ``directory`` holds a report and nothing else; one of an earlier version has fewer files."""
    found = {entry.name for entry in directory.iterdir()}
    return {"index.html", "summary.json"} <= found <= REPORT_FILES


def short_name(run: Path) -> str:
    """Return the name of a run as the name of a report may hold it."""
    return shown_name(run.name).split(".")[0][:60]


def report_directory(
    settings: Settings, name: str, is_ours: Callable[[Path], bool] | None = None
) -> AbstractContextManager[NewDirectory]:
    """Return the directory of a report in the making: ``out=``, or a new one called ``name`` below ``reports=``.

    ``is_ours`` tells what may be replaced there; preset: an older report.
    """
    from analyzer.trace.rundir import exact_directory, new_directory

    if settings.out is not None:
        return exact_directory(settings.out, is_ours or is_report)
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    return new_directory(settings.reports, f"{stamp}-{name}")


def own_sheet(settings: Settings) -> GpuSheet | None:
    """Return the sheet that ``gpu_spec=`` names, None without one."""
    if settings.gpu_spec is None:
        return None
    from analyzer.hardware.sheet_file import read_sheet

    return read_sheet(settings.gpu_spec)


def plan_lines(plans: list[dict[str, object]]) -> list[str]:
    """Return plans as lines for the terminal."""
    lines = []
    for plan in plans:
        lines += [f"{key + ':':12} {_readable(value)}" for key, value in plan.items() if value not in ([], None)] + [""]
    return lines[:-1]


def _readable(value: object) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{key}: {what}" for key, what in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else str(value)
