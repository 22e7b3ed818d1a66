"""Points from files: records, sweep directories and run directories. Only small files are read here, no trace."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from analyzer.errors import TraceError
from analyzer.schema.run import RunFacts
from analyzer.schema.sweep import (
    JOBS,
    KEY,
    MANIFEST_FILE,
    POINT_FORMAT_VERSION,
    POINTS,
    RUN_NAME,
    JobFile,
    Manifest,
    PointRecord,
    PointSetting,
)
from analyzer.trace.records import read_job, read_manifest, read_record
from analyzer.trace.rundir import RUN_FILE, read_facts

_HINT = "give a directory of a sweep, its points/*.json, or run directories with runs="


@dataclass(frozen=True, slots=True)
class Source:
    """A record and the directory of its run; ``run`` is None where it has none, ``problem`` says what is wrong with it."""

    record: PointRecord
    run: Path | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """The points that were named: ``missing`` have no record, or one that cannot be read."""

    name: str
    sources: tuple[Source, ...]
    missing: tuple[str, ...] = ()
    price: float | None = None


def is_sweep(path: Path) -> bool:
    """Tell whether ``path`` is the directory of a sweep."""
    return (path / MANIFEST_FILE).is_file()


def is_record(path: Path) -> bool:
    """Tell whether ``path`` may be the record of a point."""
    return path.suffix == ".json" and path.is_file() and path.parent.name == POINTS


def read_points(paths: list[Path]) -> Found:
    """Return the points that ``paths`` name: sweep directories, records and run directories in any mixture.

    Each file comes once, however often it is named, and a run that a record names comes as that record. Two files that record
    the same point both come: which of them counts is for ``grid`` to choose.

    Raises:
        TraceError: a path is none of these, or the manifest of a sweep is damaged.
    """
    found = _Collected()
    for path in paths:
        if is_sweep(path):
            _read_sweep(path, found)
        elif path.is_dir() and path.name == POINTS:
            for file in sorted(path.glob("*.json")):
                _add_record(file, found)
        elif is_record(path):
            _add_record(path, found)
        elif (path / RUN_FILE).is_file():
            _add_run(path, found)
        else:
            raise TraceError(f"{path} holds no points of a sweep", _HINT)
    name = found.names[0] if len(found.names) == 1 else ""
    recorded = {source.run.resolve() for source in found.sources.values() if source.run is not None}
    runs = [source for source in found.runs.values() if source.run is not None and source.run.resolve() not in recorded]
    return Found(name, (*found.sources.values(), *runs), tuple(found.missing.values()), found.price)


@dataclass
class _Collected:
    sources: dict[Path, Source] = field(default_factory=dict)
    runs: dict[Path, Source] = field(default_factory=dict)
    missing: dict[tuple[object, ...], str] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    price: float | None = None


def _read_sweep(directory: Path, found: _Collected) -> None:
    try:
        manifest = read_manifest(directory / MANIFEST_FILE)
    except FileNotFoundError as error:
        raise TraceError(f"{directory.name} has lost its {MANIFEST_FILE}", _HINT) from error
    points = directory.resolve().parent.parent / POINTS
    found.names.append(manifest.name or directory.name)
    found.price = manifest.price if manifest.price is not None else found.price
    for number in range(len(manifest.jobs)):
        _read_job(directory.resolve() / JOBS / f"{number}.json", manifest, points, found)


def _read_job(file: Path, manifest: Manifest, points: Path, found: _Collected) -> None:
    """Add the points of one job. What is missing counts for each of its models, and once, whatever two jobs have in common."""
    number = int(file.stem)
    overrides = " ".join(manifest.jobs[number])
    models = manifest.models[number] if number < len(manifest.models) else []
    try:
        job = read_job(file)
    except FileNotFoundError:
        job = JobFile()
    except TraceError as error:
        job = JobFile(error=error.message)
    if not job.keys:
        why = f": {job.error}" if job.error else ""
        for index, model in enumerate(models or [""]):
            found.missing[file, index] = _named(overrides, models, model) + why
    for index, key in enumerate(job.keys):
        record = points / f"{key}.json"
        if KEY.fullmatch(key) and record.is_file():
            _add_record(record, found)
        else:
            found.missing.setdefault((points, key), _named(overrides, models, models[index] if index < len(models) else ""))


def _named(overrides: str, models: list[str], model: str) -> str:
    return f"{overrides} ({model})".strip() if len(models) > 1 and model else overrides


def _add_record(file: Path, found: _Collected) -> None:
    try:
        record = read_record(file)
    except (TraceError, FileNotFoundError) as error:
        told = error.message if isinstance(error, TraceError) else "it is gone"
        found.missing[(file.resolve(),)] = f"record {file.name[:40]} cannot be read: {told}"
        return
    if record.status != "measured":
        found.sources[file.resolve()] = Source(record)
        return
    # the name comes from a file: it may lead nowhere but to a directory beside points/
    name = record.run or ""
    if not RUN_NAME.fullmatch(name):
        found.sources[file.resolve()] = Source(record, None, "the record names no run directory")
        return
    run = file.resolve().parent.parent / name
    gone = "" if (run / RUN_FILE).is_file() else "the run directory is gone"
    found.sources[file.resolve()] = Source(record, None if gone else run, gone)


def _add_run(directory: Path, found: _Collected) -> None:
    try:
        record = record_of(read_facts(directory / RUN_FILE))
    except TraceError as error:
        found.missing[(directory.resolve(),)] = f"run {directory.name[:80]} cannot be read: {error.message}"
        return
    found.runs.setdefault(directory.resolve(), Source(record, directory))


def record_of(facts: RunFacts) -> PointRecord:
    """Return the record that a sweep would have written of a run, from its ``run.json``.

    The key is of the run and not of its settings, so that two runs of the same settings stay two points.
    """
    settings, model = facts.settings, facts.model
    if settings.image_size is None:
        raise TraceError("the input of its model is no square image, so it is no point of a grid of image sizes")
    memory_format, execution = settings.memory_format or "", settings.execution or ""
    asked = getattr(settings, "attention", None)
    compiled = getattr(settings, "compile", None) or ("off" if execution in ("", "eager") else execution)
    setting = PointSetting(
        model=model.name,
        family=model.family,
        label=model.label,
        batch_size=settings.batch_size,
        image_size=settings.image_size,
        dtype=settings.dtype,
        layout="channels_last" if "channels_last" in memory_format else "contiguous",
        attention=asked if asked and model.family != "cnn" else "auto",
        compile=compiled,
        autocast=settings.autocast,
        input=settings.input,
        cudnn_benchmark=bool(settings.cudnn_benchmark),
        threads=settings.threads,
        seed=settings.seed,
        factory=model.factory,
    )
    return PointRecord(
        format_version=POINT_FORMAT_VERSION,
        key=hashlib.sha256(f"{facts.name} {facts.created_utc}".encode("utf-8", "replace")).hexdigest(),
        setting=setting,
        device=facts.device,
        versions=facts.versions,
        status="measured",
        run=facts.name,
        created_utc=facts.created_utc,
    )
