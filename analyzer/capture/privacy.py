"""What a record may not say: paths of the machine, whose home they lie in, and the name of the host."""

from __future__ import annotations

import hashlib
import re
import socket
from pathlib import Path
from typing import Any

import msgspec

from analyzer.schema.sweep import PointRecord, PointSetting

PATH, HOST = "<path>", "<host>"
_COMMON_HOSTS = frozenset({"", "localhost", "localhost.localdomain"})
_PATHS = re.compile(
    r"(?P<link>\b(?:https?|hf-hub)://\S+)"  # an address on the net is no path of this machine
    r"|(?P<quote>['\"])(?:~[\w.-]*|\.{1,2})?/[^'\"\n]+(?P=quote)"  # in quotes a path may hold blanks
    r"|(?<![\w<./~])(?:~[\w.-]*|\.{1,2})?/(?:[^\s'\":,;()<>\[\]{}]|:(?!\s|\d|$))+"
    r"|(?<![\w~])~[A-Za-z_][\w.-]*"
)


def masked_text(text: str) -> str:
    """Return ``text`` with ``<path>`` for every absolute path and ``~user``, and ``<host>`` for the name of this machine."""
    for home in sorted({str(Path.home()), str(Path.home().resolve())}, key=len, reverse=True):
        if len(home) > 1:  # whatever stands around it
            text = re.sub(re.escape(home) + r"(?![\w-])", "~", text)
    text = _PATHS.sub(_shown, text)
    for host in sorted(_hosts(), key=len, reverse=True):
        text = re.sub(rf"(?<![\w-]){re.escape(host)}(?![\w-])", HOST, text, flags=re.IGNORECASE)
    return text


def _shown(found: re.Match[str]) -> str:
    if found["link"]:
        return found["link"]
    quote = found["quote"] or ""
    return f"{quote}{PATH}{quote}"


def _hosts() -> set[str]:
    full = socket.gethostname().casefold()
    return {full, full.partition(".")[0]} - _COMMON_HOSTS


def masked_value(value: Any) -> Any:
    """Return the value of a model's option without paths.

    A path becomes ``<path 3fa2c1>``: the number tells two paths apart, as they make two points, and leads back to neither.
    """
    if isinstance(value, dict):
        return {masked_text(str(name)): masked_value(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [masked_value(inner) for inner in value]
    if isinstance(value, str) and not value.startswith("<path ") and ("/" in value or "\\" in value or value[:1] == "~"):
        return f"<path {hashlib.sha256(value.encode('utf-8', 'replace')).hexdigest()[:6]}>"
    return masked_text(value) if isinstance(value, str) and not value.startswith("<path ") else value


def masked_setting(setting: PointSetting) -> PointSetting:
    """Return ``setting`` as a record may have it."""
    return msgspec.structs.replace(
        setting,
        model=masked_text(setting.model),
        label=masked_text(setting.label),
        factory=None if setting.factory is None else masked_text(setting.factory),
        options=masked_value(setting.options),
    )


def masked_record(record: PointRecord) -> PointRecord:
    """Return ``record`` as it may be written and handed on."""
    return msgspec.structs.replace(
        record,
        setting=masked_setting(record.setting),
        reason=masked_text(record.reason),
        hint=masked_text(record.hint),
    )
