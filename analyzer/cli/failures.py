"""What the command line says when something is wrong: one line and a hint."""

from __future__ import annotations

import difflib
import sys
from pathlib import Path
from typing import NoReturn

from omegaconf import OmegaConf

from analyzer.errors import AnalyzerError, ConfigError

HELP_HINT = "`analyzer --help` lists the groups, the settings and their values"


def config_dir() -> str:
    """Return the configuration directory: inside the package when installed from a wheel, else beside it."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "conf"
    return str(inside if inside.is_dir() else package.parent / "conf")


def explain(error: Exception) -> ConfigError:
    """Return one line and a hint for what Hydra says in a page."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    first = lines[0] if lines else type(error).__name__
    if "Could not find" in str(error):
        asked = next(line for line in lines if "Could not find" in line).split("'")[-2]
        group, _, name = asked.partition("/")
        options = sorted(p.stem for p in (Path(config_dir()) / group).glob("*.yaml"))
        near = difflib.get_close_matches(name, options, n=3, cutoff=0.4) or options
        also = f"; any timm model works with {group}.name=NAME" if group in ("vit", "cnn") else ""
        return ConfigError(f"no {group} called {name!r}", f"nearest: {', '.join(near)}{also}")
    if first.startswith("Could not override") or "is not in struct" in first:
        asked = first.split("'")[1]
        keys = [k for k in OmegaConf.load(Path(config_dir()) / "config.yaml") if k not in ("defaults", "hydra")]
        near = difflib.get_close_matches(asked, [str(k) for k in keys], n=3)
        return ConfigError(f"no setting called {asked!r}", f"nearest: {', '.join(near)}" if near else HELP_HINT)
    if first.startswith("Ambiguous value for argument"):
        return ConfigError(first, "several values need -m: analyzer -m ...; a list stands in brackets")
    if "mismatched input" in first or "token recognition" in first or "no viable alternative" in first:
        return ConfigError(first, "quote a value that holds = , or brackets: 'runs=\"traces/a=b\"'")
    return ConfigError(first, HELP_HINT)


def report_failure(error: AnalyzerError) -> int:
    """Print the line of ``error`` and its hint; return the exit code."""
    print(f"analyzer: {error.message}", file=sys.stderr)
    if error.hint:
        print(f"hint: {error.hint}", file=sys.stderr)
    return error.exit_code


def fail(error: AnalyzerError) -> NoReturn:
    """Print the line of ``error`` and its hint, and exit."""
    sys.exit(report_failure(error))
