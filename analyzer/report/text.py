"""Names from traces and run directories made fit to be shown: no control characters, no home paths, bounded length."""

from __future__ import annotations

import re
import unicodedata

NAME_LIMIT = 72
FULL_NAME_LIMIT = 900
SENTENCE_LIMIT = 900
_LEAST_OF_A_NAME = 4
"""Characters of a model's name that stay in a label that has to be cut."""

_UNSAFE = frozenset(("Cc", "Cf", "Cs", "Co", "Cn"))
_C = r"(?:[^/\\\s\"',\]<>|]|(?<=\w)'(?=\w))"
_USER = rf"(?:{_C}++(?: {_C}++){{1,3}}(?=[/\\])|{_C}++)"
_FOLDERS = rf"(?:/(?:(?!=){_C})++(?=[/\\])|\\{{1,2}}{_C}++(?: {_C}++){{0,7}}(?=\\))*+"
_HOME = re.compile(
    rf"(?:(?:[A-Za-z]:)?[/\\]{{1,2}}(?:home\d*|homes|[Uu]sers)[/\\]{{1,2}}{_USER}|(?<!\\)\\{{2,4}}{_C}++\\{{1,2}}{_USER}"
    rf"|/root(?=[/\\])|~(?:[A-Za-z_][\w.-]*+)?(?=[/\\])){_FOLDERS}[/\\]{{0,2}}"
)
"""A home or a share of another machine and all folders behind it. No quantifier but the count of words with spaces between them
goes back, so that the time is linear in the text. A name with spaces counts where a separator follows."""


def without_homes(text: str) -> str:
    """Return ``text`` with every home folder, share and the folders in them as ``…``; the name of the file stays."""
    return _HOME.sub(_ellipsis, text) if "/" in text or "\\" in text else text


def _ellipsis(found: re.Match[str]) -> str:
    whole = found[0]
    if whole.endswith(("/", "\\")):
        return "…/"
    return "…" + whole[len(whole.rstrip(".;:!?)")) :]  # what ends the sentence


def visible(text: str) -> str:
    """Return ``text`` without control, bidi and invisible characters, each line break or tab as a space."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(" " if c in "\n\t\r" else c for c in text if c in "\n\t\r" or unicodedata.category(c) not in _UNSAFE)


def clean(text: str, limit: int = SENTENCE_LIMIT) -> str:
    """Return ``text`` without control, bidi and invisible characters and without home paths, cut to ``limit`` characters."""
    kept = visible(text[: 4 * limit + 64])
    kept = re.sub(r" {2,}", " ", without_homes(kept)).strip()
    return kept if len(kept) <= limit else f"{kept[: limit - 1].rstrip()}…"


def run_label(text: str, limit: int) -> str:
    """Return the label of a run cut to ``limit`` characters; what tells it from another of the same model, at its end, stays.

    ``vit_base_patch16_224 (math attention)`` becomes ``vit_base… (math attention)``.
    """
    whole = clean(text)
    name, bracket, words = whole.partition(" (")
    if len(whole) <= limit or not bracket or not words.endswith(")"):
        return clean(text, limit)
    room = max(limit - len(words) - 3, _LEAST_OF_A_NAME)  # beside a space, the bracket and the ellipsis
    return clean(f"{name[:room].rstrip()}… ({words}", limit)


def kernel_label(name: str, limit: int = NAME_LIMIT) -> str:
    """Return a kernel's name without return type, template arguments, parameters and namespaces of PyTorch."""
    text = clean(name, 4 * FULL_NAME_LIMIT)
    plain = _outside_brackets(text.replace("(anonymous namespace)::", "").replace("{lambda", ""))
    plain = re.sub(r"^(void|auto|float|int)\s+", "", plain).removeprefix("at::native::").strip(" :")
    *outer, last = plain.split("::")
    if outer and len(last) < 10:
        last = f"{outer[-1]}::{last}"
    return clean(last or text, limit)


def _outside_brackets(text: str) -> str:
    """Return ``text`` up to its parameter list, without anything in angle brackets."""
    depth, out = 0, []
    for char in text:
        if char == "<":
            depth += 1
        elif char == ">":
            depth = max(depth - 1, 0)
        elif char == "(" and not depth:
            break
        elif not depth:
            out.append(char)
    return "".join(out)


def operator_label(op: str) -> str:
    """Return an operator's name without its namespace; several that a compiler joined are told apart by a plus sign."""
    return clean(" + ".join(part.removeprefix("aten::") for part in op.split("+")), NAME_LIMIT)


def kilobytes_omitted(text: str, limit: int = FULL_NAME_LIMIT) -> str:
    """Return a remark on a name that is too long to be shown whole, else nothing."""
    return f" (first {limit} of {len(text)} characters; whole in kernels.csv)" if len(text) > limit else ""
