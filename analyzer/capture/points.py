"""The points of a sweep: what identifies one, where its record lies, and how it is measured in a process of its own.

Imports no torch: a sweep asks other processes for everything that needs it.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from analyzer import errors
from analyzer.capture import processes
from analyzer.capture.answers import Answer, InterruptedAfterAnswerError, ask
from analyzer.capture.locks import held, private_directory
from analyzer.capture.own_models import as_run, files_of
from analyzer.capture.privacy import masked_record
from analyzer.errors import AnalyzerError, ConfigError, DeviceError, OutOfMemoryError, TraceError, UnsupportedError
from analyzer.schema.run import DeviceFacts
from analyzer.schema.settings import CaptureSettings, ModelChoice
from analyzer.schema.sweep import (
    KEY,
    MAX_NESTING,
    MAX_RECORD_BYTES,
    POINT_FORMAT_VERSION,
    POINTS,
    RUN_NAME,
    PointRecord,
    PointSetting,
    Status,
    depth,
)
from analyzer.trace.records import read_record
from analyzer.trace.rundir import RUN_FILE

_WORKER = "analyzer.capture.point_worker"
_IDENTITY = "analyzer.capture.identity"
_NO_PART_OF_IT = frozenset({"numpy", "psutil"})
"""Versions that have no say in how long a model takes."""
_SMALLER = "use a smaller batch_size or image_size"
_MACHINE = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "OMP_NUM_THREADS", "SLURM_JOB_ID")
_LATER: dict[str, Any] = {"autocast": False, "input": "device", "cudnn_benchmark": False}
"""Settings that older points do not have, and what they had instead: that must not make another point of one."""
_OTHER_DTYPES = ("tf32",)
"""Names that no tensor has, so that they have no short forms."""
_MAX_TEXT = 2000
_DAY_S = 86_400.0
_BOOT = Path("/proc/sys/kernel/random/boot_id")


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """A device with its presets and the software that drives it.

    ``lock`` names the device among those of this machine; ``threads`` is how many CPU threads torch uses, None on a GPU;
    ``short_forms`` are the full names of the dtypes by all their names. ``no_counters``: why hardware counters cannot be had
    here, and a hint, as far as that is known without a try; empty where nothing is in the way.
    """

    facts: DeviceFacts
    lock: str
    versions: dict[str, str]
    batch_size: int
    image_size: int
    dtype: str
    threads: int | None
    short_forms: dict[str, str]
    no_counters: tuple[str, str] = ("", "")


@dataclass(frozen=True, slots=True)
class PointPlan:
    """A point to be measured: what to run, and what that is with every preset resolved."""

    choice: ModelChoice
    capture: CaptureSettings
    identity: Identity
    setting: PointSetting
    measurement: dict[str, Any]
    versions: dict[str, str]

    @property
    def key(self) -> str:
        """Return the key of the point: the same for the same setting, device and versions."""
        facts = self.identity.facts
        on_gpu = facts.type == "cuda"
        memory, power = facts.memory_bytes, facts.power_limit_w
        if memory is not None and not on_gpu:
            memory = round(memory / 2**30)  # what a kernel leaves of the memory changes with its version
        device = [facts.type, facts.name, facts.vendor, memory, facts.sm_count]
        device.append((None if power is None else round(power)) if on_gpu else facts.cores)
        setting = msgspec.to_builtins(self.setting)
        del setting["label"]  # a name for readers
        for name, usual in _LATER.items():
            if setting[name] == usual:
                del setting[name]
        identifying = {
            "setting": setting,
            "measurement": self.measurement,
            "device": device,
            "versions": {name: text for name, text in self.versions.items() if name not in _NO_PART_OF_IT},
        }
        return hashlib.sha256(msgspec.json.encode(identifying, order="deterministic")).hexdigest()[:32]


_identities: dict[str, Identity] = {}
_missing: dict[str, AnalyzerError] = {}


def identify(device: str, scope: str = "") -> Identity:
    """Return the identity of ``device`` (auto, cpu, cuda:N); this process asks for it once.

    Processes with the same ``scope`` on one machine ask once together.

    Raises:
        DeviceError: there is no such device.
    """
    if device in _missing:
        raise _missing[device]
    if device not in _identities:
        try:
            _identities[device] = _shared(device, scope) if scope else _asked(device)
        except AnalyzerError as error:
            _missing[device] = error
            raise
    return _identities[device]


def _shared(device: str, scope: str) -> Identity:
    machine = [scope, device, sys.executable, *(os.environ.get(name, "") for name in _MACHINE)]
    machine.append(_BOOT.read_text() if _BOOT.is_file() else "")
    name = hashlib.sha256("\0".join(machine).encode()).hexdigest()[:32]
    kept = private_directory() / f"identity-{name}.json"
    _remove_old(kept.parent)
    # jobs that start together ask once: loading torch a dozen times would disturb the one that measures
    with held(kept.with_suffix(".lock"), lambda: None):
        try:
            return msgspec.json.decode(kept.read_bytes(), type=Identity)
        except (OSError, msgspec.DecodeError):
            found = _asked(device)
        _write_whole(kept, msgspec.json.encode(found))
        return found


def _remove_old(directory: Path) -> None:
    """Remove what sweeps that ended long ago noted of the machine."""
    for path in directory.glob("identity-*"):
        try:
            if time.time() - path.stat().st_mtime > _DAY_S:
                path.unlink()
        except OSError:
            continue  # another process was faster


def _asked(device: str) -> Identity:
    answer = ask(_IDENTITY, {"device": device})
    if answer.value is None:
        raise _raised(answer)
    return msgspec.convert(answer.value, Identity)


def _raised(answer: Answer) -> AnalyzerError:
    if answer.error:
        kind: type[AnalyzerError] = getattr(errors, answer.error, DeviceError)
        return kind(answer.message, answer.hint)
    about = f": {answer.last_line}" if answer.last_line else ""
    return DeviceError(f"the device could not be examined, status {answer.status}{about}", "try `analyzer task=doctor`")


def plan_point(choice: ModelChoice, capture: CaptureSettings, identity: Identity) -> PointPlan:
    """Return the point that ``choice`` makes under ``capture`` on the device of ``identity``.

    Raises:
        ConfigError: a dtype that there is not, or a setting that no record can hold.
    """
    preset = "bfloat16" if capture.autocast and identity.facts.type == "cpu" else identity.dtype
    dtype = (capture.dtype or preset).strip().lower().removeprefix("torch.")
    dtypes = dict.fromkeys((*identity.short_forms.values(), *_OTHER_DTYPES))
    if dtype not in identity.short_forms and dtype not in dtypes:
        raise ConfigError(f"unknown dtype {capture.dtype}", f"use dtype={', '.join(dtypes)}")
    setting = PointSetting(
        model=choice.name or str(choice.factory),
        family=choice.family,
        label=choice.label,
        batch_size=capture.batch_size or identity.batch_size,
        image_size=capture.image_size or identity.image_size,
        dtype=identity.short_forms.get(dtype, dtype),
        layout=capture.layout,
        attention="auto" if choice.family == "cnn" else capture.attention,  # it has none to choose
        compile=capture.compile,
        autocast=capture.autocast,
        input=capture.input,
        cudnn_benchmark=bool(capture.cudnn_benchmark) and identity.facts.type == "cuda",  # a CPU runs no cuDNN
        threads=capture.threads or identity.threads,
        seed=capture.seed,
        factory=choice.factory,
        options=choice.options,
    )
    _check(setting)
    if capture.counters == "ncu" and any(identity.no_counters):  # one line now, not one per point after it ran
        raise UnsupportedError(f"counters=ncu: {identity.no_counters[0]}", identity.no_counters[1] or "use counters=auto")
    measurement: dict[str, Any] = {
        "iterations": capture.iterations,
        "repeats": capture.repeats,
        "traced_steps": capture.traced_steps,
        "stacks": capture.stacks,
        "warmup_max_s": capture.warmup_max_s,
        "warmup_min_iterations": capture.warmup_min_iterations,
        "sample_period_s": capture.sample_period_s,
    }
    if capture.counters == "ncu":  # only then is a point without them another one
        measurement["counters"] = "ncu"
    return PointPlan(choice, capture, identity, setting, measurement, identity.versions | files_of(choice))


def _check(setting: PointSetting) -> None:
    """Check that a record with ``setting`` can be written and read."""
    hint = "give fewer or smaller options"
    if depth(setting.options) > MAX_NESTING:
        raise ConfigError(f"the options of {setting.label} are nested too deep", hint)
    try:
        text = msgspec.json.encode(setting)
        msgspec.json.decode(text, type=PointSetting)
    except (msgspec.MsgspecError, TypeError, UnicodeError) as error:
        raise ConfigError(f"the settings of a point cannot be meant: {error}", "see docs/sweeps.md") from error
    if len(text) > MAX_RECORD_BYTES // 2:
        raise ConfigError(f"the options of {setting.label} are too large for a record", hint)


@dataclass(frozen=True, slots=True)
class PointStore:
    """The records below a directory of runs: ``<runs>/points/<key>.json``."""

    runs: Path

    def path(self, key: str) -> Path:
        """Return where the record of ``key`` lies."""
        return self.runs / POINTS / f"{key}.json"

    def lock(self, key: str) -> Path:
        """Return the file to hold while the point ``key`` is looked up and measured; its directory is there then."""
        path = self.path(key).with_name(f".{key}.lock")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"cannot write to {self.runs}: {error.strerror}", "choose another directory") from error
        return path

    def read(self, key: str) -> PointRecord | None:
        """Return the record of ``key``, None where there is none.

        Raises:
            TraceError: the record is damaged or of a newer version.
        """
        path = self.path(key)
        if not KEY.fullmatch(key):
            raise TraceError("a key of a point is damaged", "the point is measured again")
        try:
            record = read_record(path)
        except FileNotFoundError:
            return None
        except TraceError as error:
            raise TraceError(f"the record of a point is of no use: {error.message}", error.hint) from error
        if record.key != key:
            raise TraceError(f"the record {path.name} of a point is of another version", "the point is measured again")
        return record

    def is_settled(self, record: PointRecord) -> bool:
        """Tell whether the point need not be measured again."""
        if record.status == "measured":
            name = record.run or ""
            return RUN_NAME.fullmatch(name) is not None and (self.runs / name / RUN_FILE).is_file()
        return record.status != "failed"

    def write(self, record: PointRecord) -> None:
        """Write ``record`` without paths and hosts, whole or not at all.

        Raises:
            ConfigError: it cannot be written.
        """
        text = msgspec.json.format(msgspec.json.encode(masked_record(record)), indent=2) + b"\n"
        if len(text) > MAX_RECORD_BYTES:
            raise ConfigError("the record of a point is too large", "give fewer or smaller options")
        try:
            _write_whole(self.path(record.key), text)
        except OSError as error:
            raise ConfigError(f"cannot write the record of a point: {error.strerror}", "make room and repeat") from error


def _write_whole(path: Path, text: bytes) -> None:
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.")
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())  # a machine that goes down must not leave an empty record under the final name
        Path(part).chmod(0o644)
        Path(part).replace(path)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise


def measure(plan: PointPlan, store: PointStore, keep: Sequence[int] = ()) -> PointRecord:
    """Measure the point of ``plan`` in a fresh process, write its record to ``store`` and return it, whatever comes of it.

    A point that was whole when Ctrl-C came is written too. The process inherits the descriptors ``keep``, so that it holds
    their locks for as long as it lives.
    """
    settings = dataclasses.asdict(plan.capture) | {
        "out_root": str(plan.capture.out_root.absolute()),
        # an example input has sizes of its own, which contradict only what was set
        "batch_size": plan.capture.batch_size if plan.choice.factory else plan.setting.batch_size,
        "image_size": plan.capture.image_size if plan.choice.factory else plan.setting.image_size,
        "dtype": plan.setting.dtype,
        "attention": plan.setting.attention,
        "counters": plan.capture.counters if plan.capture.counters == "ncu" else "none",  # a sweep counts only when told to
    }
    kills, started = processes.memory_kills(), time.monotonic()
    token = secrets.token_hex(8)
    request = {"choice": dataclasses.asdict(plan.choice), "settings": settings, "token": token}
    try:
        answer = ask(_WORKER, request, keep)
    except InterruptedAfterAnswerError as interruption:
        store.write(_record(plan, interruption.answer, 0, started))
        raise
    if answer.value is None:
        _remove_remains(plan.capture.out_root, token)
    record = _record(plan, answer, processes.memory_kills() - kills, started)
    store.write(record)
    return record


def _record(plan: PointPlan, answer: Answer, kills: int, started: float) -> PointRecord:
    status, reason, hint = _judged(answer, kills)
    return PointRecord(
        format_version=POINT_FORMAT_VERSION,
        key=plan.key,
        setting=as_run(plan.setting, plan.capture.out_root, answer.value),
        device=plan.identity.facts,
        versions=plan.versions,
        measurement=plan.measurement,
        status=status,
        reason=reason[:_MAX_TEXT],
        hint=hint[:_MAX_TEXT],
        run=answer.value,
        seconds=round(time.monotonic() - started, 2),
        created_utc=datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
    )


def _remove_remains(root: Path, token: str) -> None:
    """Remove the unfinished run directory of the process that was given ``token``, which died before it could."""
    for part in root.glob(f".*.{token}.*.part"):
        shutil.rmtree(part, ignore_errors=True)


def _judged(answer: Answer, kills: int) -> tuple[Status, str, str]:
    """Return what an answer means: the status, the reason and a hint."""
    if answer.value is not None:
        return "measured", "", ""
    if answer.error:
        kind: type[AnalyzerError] = getattr(errors, answer.error, DeviceError)
        status: Status = "failed"
        if issubclass(kind, OutOfMemoryError):
            status = "out_of_memory"
        elif issubclass(kind, UnsupportedError):
            status = "unsupported"
        return status, answer.message, answer.hint
    out_of_memory, text = processes.killing(answer.status, kills)
    if text:
        return "out_of_memory" if out_of_memory else "failed", text, _SMALLER
    how = f"signal {-answer.status}" if answer.status < 0 else f"status {answer.status}"
    return "failed", f"the process ended with {how}{f': {answer.last_line}' if answer.last_line else ''}", ""
