"""Packs what a plan gave into a few archives, each small enough for a narrow door; what does not fit is named."""

from __future__ import annotations

import datetime
import gzip
import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

from analyzer.capture.privacy import masked_text
from benchmarks.evidence.identity import Names, UnreadableError

MOST_ARCHIVES = 6
MOST_BYTES = 15_000_000
MANIFEST = "MANIFEST.json"
_MARGIN = 200_000
"""For the manifest and the ends of an archive."""
_HEADER = 2_048


@dataclass(frozen=True)
class Part:
    """Files that stay together: a run directory, or what is small. ``files`` are (name in the archive, content)."""

    name: str
    files: tuple[tuple[str, bytes], ...]

    @cached_property
    def packed_bytes(self) -> int:
        """Return what it takes in an archive, at most: each file packed on its own, with its header."""
        return sum(len(gzip.compress(content, 6)) + _HEADER for _, content in self.files)


@dataclass(frozen=True, slots=True)
class Left:
    """Something that is in no archive, and why."""

    name: str
    why: str
    bytes: int


@dataclass(slots=True)
class Packed:
    """The archives that were written, in order, and what was left out."""

    archives: list[Path] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)


def pack(folder: Path, runs: Sequence[str], names: Names, about: dict[str, object], most_bytes: int = MOST_BYTES) -> Packed:
    """Write the archives of ``folder`` to ``folder/bundle`` anew: state, results and logs, then ``runs`` in their order.

    A file that still holds a name of ``names`` is left out, with the whole run that it belongs to.
    """
    packed = Packed()
    parts: list[Part] = []
    for found in _parts(folder, runs):
        part, told = found, _refused(found, names)
        if told and part.name == "evidence":  # files that stand for themselves: the others may go
            packed.left += told
            part = Part(part.name, tuple(file for file in part.files if not _refused(Part("", (file,)), names)))
        elif told:
            packed.left += told
            size = sum(len(content) for _, content in part.files)
            packed.left.append(Left(part.name, f"{told[0].name} may not leave, and a run goes whole or not at all", size))
            continue
        parts += _fitting(part, most_bytes - _MARGIN, packed.left)
    target, making = folder / "bundle", folder / ".bundle.making"  # whoever ends this process, the older bundle is whole
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    groups = _grouped(parts, most_bytes - _MARGIN, packed.left)
    about = {"created_utc": datetime.datetime.now(datetime.UTC).isoformat(), **about}
    for number, group in enumerate(groups, 1):
        name = f"evidence-{number}.tar.gz"
        _write(making / name, group, {**about, "archive": number, "archives": len(groups)}, packed.left)
        packed.archives.append(target / name)
    shutil.rmtree(target, ignore_errors=True)
    making.rename(target)
    return packed


def _parts(folder: Path, runs: Sequence[str]) -> Iterable[Part]:
    small = [(path.name, path.read_bytes()) for path in sorted(folder.glob("*.json"))]
    small += [(f"results/{path.name}", path.read_bytes()) for path in sorted((folder / "results").glob("*.json"))]
    for path in sorted((folder / "logs").glob("*.log")):
        text = path.read_text(encoding="utf-8", errors="replace")
        small.append((f"logs/{path.name}", "\n".join(map(masked_text, text.splitlines())).encode()))
    yield Part("evidence", tuple(small))
    for name in runs:
        root = folder / "runs" / name
        # hidden is what an interrupted counter pass left unfinished
        hidden = [path for path in root.rglob(".*") if path.is_dir()]
        every = (path for path in root.rglob("*") if not path.name.startswith(".") and not set(hidden) & set(path.parents))
        found = sorted(path for path in every if path.is_file() and not path.is_symlink())
        if found:
            yield Part(name, tuple((str(path.relative_to(folder)), path.read_bytes()) for path in found))


def _refused(part: Part, names: Names) -> list[Left]:
    told = []
    for number, (name, content) in enumerate(part.files, 1):
        of_name = names.found(name.encode())
        try:
            found = [*of_name, *names.found(content)]
        except UnreadableError as error:
            found = [f"nobody knows what: {error}"]
        if found:
            shown = f"file {number} of {part.name}, by its own name" if of_name else name
            told.append(Left(shown, f"it still holds {', '.join(dict.fromkeys(found))}", len(content)))
    return told


def _fitting(part: Part, most_bytes: int, left: list[Left]) -> list[Part]:
    """Return ``part``, in pieces where it is too large for one archive; a file that is so itself is left out."""
    if part.packed_bytes <= most_bytes:
        return [part]
    pieces: list[Part] = []
    now: list[tuple[str, bytes]] = []
    size = 0
    for file in part.files:
        one = Part(part.name, (file,)).packed_bytes
        if one > most_bytes:
            why = f"{one / 1e6:.1f} MB packed, an archive takes {most_bytes / 1e6:.1f} MB; its run is not complete without it"
            left.append(Left(file[0], why, len(file[1])))
        elif now and size + one > most_bytes:
            pieces.append(Part(part.name, tuple(now)))
            now, size = [file], one
        else:
            now.append(file)
            size += one
    return [*pieces, Part(part.name, tuple(now))] if now else pieces


def _grouped(parts: Sequence[Part], most_bytes: int, left: list[Left]) -> list[list[Part]]:
    """Return the parts of each archive: each part goes into the first that has room; what finds none is left out."""
    groups: list[list[Part]] = []
    sizes: list[int] = []
    for part in parts:
        size = part.packed_bytes
        place = next((number for number, taken in enumerate(sizes) if taken + size <= most_bytes), None)
        if place is not None:
            groups[place].append(part)
            sizes[place] += size
        elif len(groups) < MOST_ARCHIVES:
            groups.append([part])
            sizes.append(size)
        else:
            left.append(Left(part.name, f"{size / 1e6:.1f} MB packed, and {MOST_ARCHIVES} archives are full", size))
    return groups


def _write(path: Path, parts: Sequence[Part], about: dict[str, object], left: Sequence[Left]) -> None:
    files = [file for part in parts for file in part.files]
    listed = [{"name": name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in files]
    manifest = {
        "format_version": 1, **about, "files": listed, "left_out": [asdict(each) for each in left],
    }  # fmt: skip
    text = json.dumps(manifest, indent=1, ensure_ascii=False).encode() + b"\n"
    with (
        path.open("wb") as plain,
        gzip.GzipFile("", "wb", 6, plain, 0) as file,
        tarfile.open(fileobj=file, mode="w") as archive,
    ):
        for name, data in [(MANIFEST, text), *files]:
            entry = tarfile.TarInfo(name)  # owner 0 without a name, no time: nothing of the machine
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
