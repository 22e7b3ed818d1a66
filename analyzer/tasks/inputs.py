"""What tasks have in common: the runs that were named, the user's own sheet, the directory of a report, plans as lines."""

from __future__ import annotations

import datetime
import glob
from collections.abc import Callable, Iterable
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
    "fusion.csv",
    "access.csv",
    "counted.csv",
    "operator_tree.csv",
    "module_tree.csv",
    "launches.csv.gz",
}  # fmt: skip


def expand_runs(given: tuple[str, ...]) -> list[Path]:
    """Return the run directories and trace files that ``runs=`` names, and files of counters where it names these.

    A directory that is no run and holds runs stands for these. A glob that matches runs or traces leaves out the files of
    counters beside them, and the traces without CUDA graphs that belong to others of its matches.

    Raises:
        ConfigError: nothing was given, or a glob matches nothing.
    """
    if not given:
        raise ConfigError("runs= is missing", "give a run directory, a trace file, a list or a glob: runs=traces/X")
    return opened(matching(given, _usable, "run or trace"))


def opened(paths: Iterable[Path]) -> list[Path]:
    """Return ``paths`` with the runs inside in place of each directory that is no run and holds some."""
    return [run for path in paths for run in runs_inside(path) or [path]]


def runs_inside(path: Path) -> list[Path]:
    """Return the runs in a directory that is none itself."""
    return [] if _is_run(path) else sorted(file.parent for file in path.glob("*/run.json"))


def _is_run(path: Path) -> bool:
    return (path / "run.json").is_file()


def matching(given: tuple[str, ...], usable: Callable[[list[Path]], list[Path]], what: str) -> list[Path]:
    """Return the paths that ``given`` names, of a glob those that ``usable`` leaves of its sorted matches.

    Raises:
        ConfigError: a glob matches no ``what``.
    """
    found: list[Path] = []
    for text in given:
        if not glob.has_magic(text) or Path(text).exists():
            found.append(Path(text))
            continue
        matches = usable(sorted(Path(m) for m in glob.glob(text)))  # noqa: PTH207  Path.glob takes no absolute pattern
        if not matches:
            raise ConfigError(f"no {what} matches {text}", "run `analyzer` to record one")
        found += matches
    return found


def _usable(matches: list[Path]) -> list[Path]:
    usable = [m for m in matches if _is_run(m) or runs_inside(m) or (m.is_file() and ".json" in m.suffixes)]
    stems = {_stem(m) for m in usable}
    usable = [m for m in usable if not (_stem(m).endswith(".ungraphed") and _stem(m).removesuffix(".ungraphed") in stems)]
    return usable or [m for m in matches if is_counter_file(m)]


def _stem(path: Path) -> str:
    return str(path).removesuffix(".gz").removesuffix(".json")


def is_counter_file(path: Path) -> bool:
    """Tell whether ``path`` is a table and no run or trace: by its name alone."""
    return path.name.lower().endswith((".csv", ".csv.gz")) and not path.is_dir()


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
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:,}" if isinstance(value, int) else str(value)
