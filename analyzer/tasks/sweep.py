"""``task=profile`` under ``-m``: each model of each job is a point, measured once in a process of its own, with a record."""

from __future__ import annotations

import datetime
import os
import shutil
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import msgspec

from analyzer.capture.locks import device_lock, held
from analyzer.capture.points import PointPlan, PointStore, identify, measure, plan_point
from analyzer.capture.privacy import masked_record, masked_setting
from analyzer.errors import EXIT_FAILED, AnalyzerError, ConfigError, TraceError
from analyzer.progress import Reporter
from analyzer.schema.settings import Settings
from analyzer.schema.sweep import JOBS, MANIFEST_FILE, MAX_MANIFEST_BYTES, JobFile, Manifest, PointRecord, PointSetting
from analyzer.tasks.inputs import report_directory
from analyzer.tasks.outcome import Outcome
from analyzer.trace import records

_SAID = {"measured": "", "out_of_memory": "out of memory", "unsupported": "not supported", "failed": "failed"}
_MAX_OPTIONS = 200


@dataclass(frozen=True, slots=True)
class Problem:
    """A job that cannot run: its number from 0, its overrides, and why."""

    job: int
    overrides: tuple[str, ...]
    error: AnalyzerError


@dataclass
class Progress:
    """How far a sweep is. ``keys``: its points in order, empty where each job runs on a machine that only it knows.

    ``left`` are those that have to be measured; ``seconds`` how long each took that was measured here.
    """

    keys: list[str] = field(default_factory=list)
    left: set[str] = field(default_factory=set)
    seconds: list[float] = field(default_factory=list)
    current: str = ""

    def title(self, plan: PointPlan) -> str:
        """Return what is being measured, with its number among all points."""
        number = f" {self.keys.index(plan.key) + 1} of {len(self.keys)}" if plan.key in self.keys else ""
        return f"point{number}, {describe(plan.setting)}"

    def settle(self, key: str, seconds: float | None) -> None:
        """Count the point ``key`` as settled; ``seconds`` is how long it took here, None where it was known."""
        self.left.discard(key)
        if seconds is not None:
            self.seconds.append(seconds)

    @property
    def done(self) -> int:
        """Return how many points have a result."""
        return len(self.keys) - len(self.left)

    def time_left(self) -> str:
        """Return about how long the rest takes, empty when nothing is known or left."""
        if not self.left or not self.seconds:
            return ""
        return f", about {duration(len(self.left) * sum(self.seconds) / len(self.seconds))} left"


def describe(setting: PointSetting) -> str:
    """Return a point in words; settings that are as usual are left out."""
    parts = [setting.label, f"batch {setting.batch_size}", f"{setting.image_size} px", setting.dtype]
    parts += ["autocast"] * setting.autocast + ["input on the host"] * (setting.input == "host")
    parts += ["cudnn.benchmark"] * setting.cudnn_benchmark
    parts += [setting.layout] if setting.layout != "contiguous" else []
    parts += [f"attention {setting.attention}"] if setting.attention != "auto" else []
    parts += [f"compile {setting.compile}"] if setting.compile != "off" else []
    options = ", ".join(f"{name} {value}" for name, value in setting.options.items())
    return ", ".join([*parts, options[:_MAX_OPTIONS]] if options else parts)


def duration(seconds: float) -> str:
    """Return a time span as a person says it: ``40 s``, ``3 min``, ``2 h 10 min``."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def check(settings: Settings) -> None:
    """Check what can be checked of a job without its device.

    Raises:
        ConfigError: the job has no model, or a setting that a sweep does not take.
    """
    from analyzer import tasks

    if not settings.models:
        raise ConfigError("vit=none and cnn=none leave nothing to run", "choose a model, for example vit=vit_tiny_patch16_224")
    tasks.check(settings)
    if settings.variants:
        ways = (settings.capture, *settings.variants)
        name = next(f.name for f in fields(settings.capture) if len({getattr(way, f.name) for way in ways}) > 1)
        what = f"{name}= is a list, and each point of a sweep has one value"
        raise ConfigError(what, f"with -m write the values without brackets: {name}=A,B")
    selection = settings.selection
    given = {
        "gpu_spec": settings.gpu_spec,
        "steps": selection.steps,
        "annotation": selection.annotation,
        "rank": selection.rank,
    }
    for name, value in given.items():
        if value is not None:
            hint = f"leave {name}= away; task=report takes it, with runs= of the sweep's run directories"
            raise ConfigError(f"a sweep takes no {name}=", hint)


def check_report(settings: Settings) -> None:
    """Check, before anything is measured, that the report can be written where ``out=`` or ``reports=`` says.

    Raises:
        ConfigError: it cannot.
    """

    class Enough(Exception):  # noqa: N818  no error: it ends the block, so that nothing is left behind
        pass

    def is_ours(directory: Path) -> bool:
        from analyzer.report.crossover.files import is_crossover_report

        return is_crossover_report([entry.name for entry in directory.iterdir()])

    try:
        with report_directory(settings, "crossover", is_ours):
            raise Enough
    except Enough:
        return


def plan_job(settings: Settings, scope: str = "") -> list[PointPlan]:
    """Return the points of one job, one for each of its models.

    ``scope`` names a sweep whose jobs run in processes of their own: those on one machine examine the device once.

    Raises:
        ConfigError: the settings of the job cannot be meant.
        DeviceError: the device is not there.
    """
    check(settings)
    identity = identify(settings.capture.device, scope)
    return [plan_point(choice, settings.capture, identity) for choice in settings.models]


def known(plan: PointPlan, resume: bool, started_utc: str, reporter: Reporter | None = None) -> PointRecord | None:
    """Return the record that makes it needless to measure ``plan``, None where there is none.

    A record of this sweep (written since ``started_utc``) always counts; an older one when ``resume`` is on and it is settled.
    """
    store = PointStore(plan.capture.out_root)
    try:
        record = store.read(plan.key)
    except TraceError as error:
        if reporter is not None:
            reporter.say(f"warning: {error.message}; it is measured again")
        return None
    if record is None or not (store.is_settled(record) or record.status == "failed"):
        return None
    if record.created_utc >= started_utc:
        return record
    return record if resume and store.is_settled(record) else None


def run_job(
    settings: Settings, directory: Path, number: int, overrides: list[str], progress: Progress, reporter: Reporter
) -> Outcome:
    """Settle the points of one job and note their keys in ``directory``, that of the sweep.

    Raises:
        AnalyzerError: the settings or the device do not allow the job at all.
    """
    started = _manifest(directory).created_utc
    plans = plan_job(settings, directory.name)
    write_job(directory, number, JobFile(keys=[plan.key for plan in plans]))
    found = [_settle(plan, settings.resume, started, progress, reporter) for plan in plans]
    failed = any(record.status == "failed" for record in found)
    points = [
        {"key": r.key, "status": r.status, "reason": r.reason, "run": r.run, "setting": msgspec.to_builtins(r.setting)}
        for r in found
    ]
    document = {"job": number, "overrides": overrides, "points": points}
    return Outcome([], document, exit_code=EXIT_FAILED if failed else 0)


def _settle(plan: PointPlan, resume: bool, started: str, progress: Progress, reporter: Reporter) -> PointRecord:
    store = PointStore(plan.capture.out_root)
    progress.current = title = progress.title(plan)
    with held(store.lock(plan.key), lambda: reporter.say(f"{title}: another process measures it; waiting")) as point:
        record = known(plan, resume, started, reporter)
        if record is not None:
            progress.settle(plan.key, None)
            return record
        waiting = f"{title}: waiting for the device, which another process measures on"
        lock = held(device_lock(plan.identity.lock), lambda: reporter.say(waiting))
        with lock as device, reporter.stage(title, quiet_end=True):
            record = measure(plan, store, (*point, *device))
    progress.settle(plan.key, record.seconds)
    said = f"{_SAID[record.status]}: {record.reason}; " if record.status != "measured" else ""
    reporter.say(f"{title}: {said}{record.seconds:.1f} s{progress.time_left()}")  # here a path helps
    return masked_record(record)


def new_sweep(root: Path, name: str, jobs: list[list[str]], models: list[list[str]], price: float | None) -> Path:
    """Make the directory of a sweep below ``root`` with its manifest; a name that is taken gets a number behind it.

    Raises:
        ConfigError: it cannot be written.
    """
    try:
        directory = _claim(root, name)
    except OSError as error:
        raise ConfigError(f"cannot write to {root}: {error.strerror}", "choose another directory with traces=") from error
    manifest = Manifest(name=directory.name, jobs=jobs, models=models, price=price, created_utc=_now())
    try:
        if len(msgspec.json.encode(manifest)) > MAX_MANIFEST_BYTES // 2:  # written with blanks and line ends
            raise ConfigError(f"{len(jobs)} jobs are too many for one sweep", "split it; task=crossover takes several sweeps")
        (directory / JOBS).mkdir()
        _write(directory / MANIFEST_FILE, manifest)
    except BaseException as error:
        shutil.rmtree(directory, ignore_errors=True)
        if isinstance(error, OSError):
            raise ConfigError(f"cannot write to {root}: {error.strerror}", "make room, or set traces=") from error
        raise
    return directory


def _claim(root: Path, name: str) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for number in range(1, 1000):
        directory = root / (name if number == 1 else f"{name}-{number}")
        try:
            directory.mkdir()
        except FileExistsError:
            continue
        return directory
    raise ConfigError(f"{root} holds a thousand directories named {name}", "remove some")


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


def _manifest(directory: Path) -> Manifest:
    try:
        return records.read_manifest(directory / MANIFEST_FILE)
    except (FileNotFoundError, TraceError) as error:
        raise TraceError(f"{directory.name}/{MANIFEST_FILE} is missing or damaged", "start the sweep again") from error


def write_job(directory: Path, number: int, job: JobFile) -> None:
    """Note what came of job ``number`` in the directory of its sweep.

    Raises:
        ConfigError: it cannot be written.
    """
    try:
        _write(directory / JOBS / f"{number}.json", job)
    except OSError as error:
        raise ConfigError(f"cannot write to {directory.name}: {error.strerror}", "make room and repeat the sweep") from error


def _write(path: Path, content: msgspec.Struct) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}.{time.monotonic_ns()}")
    part.write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n")
    part.replace(path)


def outlook(plans: Iterable[PointPlan], resume: bool) -> tuple[list[PointPlan], dict[str, PointRecord]]:
    """Return every point once, in order, and the records of those that need not be measured."""
    points = list({plan.key: plan for plan in plans}.values())
    found = {plan.key: record for plan in points if (record := known(plan, resume, "9", None)) is not None}
    return points, found


def tell(problems: Sequence[Problem], reporter: Reporter) -> str:
    """Say which jobs cannot run, one line for each reason; return how many they are, empty where there is none."""
    by_reason: dict[str, list[Problem]] = {}
    for problem in problems:
        by_reason.setdefault(problem.error.message, []).append(problem)
    for message, found in by_reason.items():
        first = f"job {found[0].job + 1} ({' '.join(found[0].overrides)})"
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        hint = f" ({found[0].error.hint})" if found[0].error.hint else ""
        reporter.say(f"warning: {first}{more} cannot run: {message}{hint}")
    return f"{len(problems)} {'job' if len(problems) == 1 else 'jobs'} cannot run" if problems else ""


def dry_run(plans: Iterable[PointPlan], resume: bool, problems: Sequence[Problem], reporter: Reporter) -> Outcome:
    """Return what a sweep would do: its points, which of them are known, and about how long the others take.

    The exit code is 1 where a job cannot run.
    """
    points, found = outlook(plans, resume)
    lines, rows = [], []
    for number, plan in enumerate(points, start=1):
        record = found.get(plan.key)
        state = {"measured": "known"}.get(record.status, f"known: {_SAID[record.status]}") if record else "to measure"
        lines.append(f"point {number} of {len(points)}, {describe(plan.setting)}: {state}")
        rows.append(
            {"key": plan.key, "known": record is not None, "setting": msgspec.to_builtins(masked_setting(plan.setting))}
        )
    left = len(points) - len(found)
    seconds = _mean_seconds(found.values())
    if not left:
        estimate = "nothing to measure"
    elif seconds is None:
        estimate = "how long is not known: no point of this sweep was measured yet"
    else:
        estimate = f"about {duration(left * seconds)}, by the {duration(seconds)} that a known point took on average"
    lines += ["", f"{len(points)} points, {len(found)} known, {left} to measure; {estimate}"]
    if told := tell(problems, reporter):
        lines += [told]
    document: dict[str, Any] = {"points": rows, "to_measure": left, "estimated_s": None if seconds is None else left * seconds}
    document["problems"] = [
        {"job": p.job, "overrides": list(p.overrides), "reason": p.error.message, "hint": p.error.hint} for p in problems
    ]
    return Outcome(lines, document, exit_code=EXIT_FAILED if problems else 0)


def _mean_seconds(found: Iterable[PointRecord]) -> float | None:
    taken = [record.seconds for record in found if record.status == "measured" and record.seconds > 0]
    return sum(taken) / len(taken) if taken else None


def begin(plans: Iterable[PointPlan], resume: bool, problems: Sequence[Problem], reporter: Reporter) -> Progress:
    """Say how many points there are to measure and what cannot run, and return the progress to keep."""
    points, found = outlook(plans, resume)
    left = {plan.key for plan in points} - set(found)
    told = tell(problems, reporter)
    reporter.say(f"{len(points)} points, {len(found)} known, {len(left)} to measure{f'; {told}' if told else ''}")
    return Progress([plan.key for plan in points], left)


def finish(settings: Settings, directory: Path, reporter: Reporter, *, remote: bool = False) -> Outcome:
    """Write the crossover report of the sweep in ``directory``. The exit code is 1 where a point or a job failed.

    ``remote``: jobs ran in other processes, so what they said is said here.
    """
    from analyzer.tasks.crossover import write_crossover

    jobs = _manifest(directory).jobs
    store = PointStore(settings.capture.out_root)
    found = {number: _failure(directory / JOBS / f"{number}.json", store) for number in range(len(jobs))}
    failures = {number: failure for number, failure in found.items() if failure is not None}
    if remote:
        for number, (why, _) in failures.items():
            reporter.say(f"job {number + 1} of {len(jobs)} ({' '.join(jobs[number])}): {why}")
    outcome = write_crossover(settings, directory, reporter)
    failed = sum(again for _, again in failures.values())
    if failed:
        reporter.say(f"warning: {failed} of {len(jobs)} jobs failed; the same command tries them again")
    if stuck := len(failures) - failed:
        reporter.say(f"warning: {stuck} of {len(jobs)} jobs could not begin, and cannot until what their lines say is mended")
    return replace(outcome, exit_code=outcome.exit_code or EXIT_FAILED) if failures else outcome


def _failure(path: Path, store: PointStore) -> tuple[str, bool] | None:
    """Return why the job of ``path`` has failed and whether trying again may help; None where it has not."""
    try:
        job = records.read_job(path)
        if job.error:
            return job.error, False
        for key in job.keys:
            record = store.read(key)
            if record is None:
                return "a point has no record", True
            if record.status == "failed":
                return f"failed: {record.reason}", True
    except FileNotFoundError:
        return "it ended without a result", True
    except (OSError, TraceError) as error:
        return str(error), True
    return None
