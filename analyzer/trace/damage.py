"""What was wrong with a trace file: counted while it is read, told in a few sentences afterwards."""

from __future__ import annotations

from collections import Counter

_SENTENCES = {
    "lost": "events that cannot be read and are left out: {n}",
    "time": "events without a start, or with a time that no clock gives, which are left out: {n}",
    "no_duration": "events without a duration, which counts as 0: {n}",
    "negative": "negative durations, which count as 0: {n}",
    "arguments": "events with arguments of a wrong type, which are left out: {n}",
    "text": "names and other texts that are left out, since there are too many different ones (the times are kept): {n}",
    "frames": "frames of the Python stack that are left out of call stacks, since there are too many: {n}",
    "repaired": "places that JSON does not allow (N/A, NaN, control characters, broken text), which were repaired: {n}",
    "lists": "lists of events beyond the first, which are read as well: {n}",
}


class Damage:
    """Counts of what was lost or mended in one file; those on the device apart as well, with the name of the first."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._on_device: dict[str, tuple[int, str]] = {}
        self._end: list[str] = []

    def add(self, what: str, count: int = 1, on_device: str | None = None) -> None:
        """Count ``count`` cases of ``what``, a key of the sentences above.

        ``on_device``: they are kernels, copies or fills, and this is the name of the first.
        """
        if what not in _SENTENCES:
            raise KeyError(what)
        self.counts[what] += count
        if on_device is not None:
            known, first = self._on_device.get(what, (0, on_device))
            self._on_device[what] = known + count, first

    def take(self, other: Damage) -> None:
        """Count what ``other`` found in its part of the same file."""
        for what, count in other.counts.items():
            on_device, first = other._on_device.get(what, (0, ""))
            self.add(what, count - on_device)
            if on_device:
                self.add(what, on_device, first)

    def cut_off(self, what: str) -> None:
        """Note that the file ends too early or holds more than one document, and how that shows."""
        self._end.append(what)

    @property
    def is_cut_off(self) -> bool:
        """Tell whether the file ends too early, so that what is not in it may have stood behind that point."""
        return bool(self._end)

    def sentences(self) -> tuple[str, ...]:
        """Return what a reader has to know, most grave first; nothing for a sound file."""
        end = tuple(f"{what}: whatever stood behind that point is missing from every figure" for what in self._end[:1])
        return (*end, *(text.format(n=self.counts[key]) for key, text in _SENTENCES.items() if self.counts[key]))

    def impossible(self) -> tuple[tuple[str, str], ...]:
        """Return what no device can have done: the name of the first kernel, and what is wrong with how many."""
        return tuple(
            (name, f"on the device: {_SENTENCES[key].format(n=count)}") for key, (count, name) in self._on_device.items()
        )
