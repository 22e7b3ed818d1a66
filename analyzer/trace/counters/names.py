"""Names of kernels, so that those of Nsight Compute's demangler and of Kineto's (``abi::__cxa_demangle``) can be compared.

Nsight Compute writes ``void f<(int)4, ns::<unnamed>::g(T &)::[lambda() (instance 1)], A<char *, (unsigned long)2>>(int, T2)``
where Kineto writes ``void f<4, ns::(anonymous namespace)::g(T&)::{lambda()#1}, A<char*, 2ul> >(int, ns::..., A<char*, 2ul>)``.
Both spellings were read in public files: profiles of PyTorch by Nsight, and the traces in the tests.
"""

from __future__ import annotations

import re
from functools import lru_cache

MAX_PARSED_CHARS = 10_000
"""Longer names are taken as they are. Kineto itself leaves names beyond 8192 characters mangled."""

_ANONYMOUS = re.compile(r"(?:<unnamed>|\(anonymous namespace\)|\{anonymous\}|_GLOBAL__N_\w*|_INTERNAL_\w+)(?:::)?")
_LAMBDA = re.compile(r"[\[{](?:lambda|unnamed type)\(|'lambda(\d*)'\(")
_INSTANCE = re.compile(r"\s*\(instance (\d+)\)\s*\]")
_NUMBERED = re.compile(r"\s*#(\d+)\s*\}")
_CALL = re.compile(r"operator\s*\(\s*\)")
_CAST = re.compile(r"\(([\w:<>, ]{1,200})\)\s*(?=-?\d)")
_SUFFIX = re.compile(r"(?<![\w.])(-?\d+)(?:[uU][lL]{0,2}|[lL]{1,2}[uU]?)\b")
_TRUTH = {"true": "1", "false": "0"}
_CLONE = re.compile(r"\s*\[(?:clone|abi:)[^\]]*\]|\s*\((?:\.\w+)+\)$")
_QUALIFIER = re.compile(r"\b(?:const|volatile|struct|class|enum)\b|std::__\w+::|__restrict__")
_INTEGER = re.compile(
    r"\b(?:(?:unsigned|signed|long|short|int|char)\s+)+(?:int|long|char|short|double)\b|\b(?:unsigned|signed)\b"
)


@lru_cache(maxsize=65536)
def name_keys(name: str) -> tuple[str, str, str]:
    """Return what of a kernel's name is compared, exact first: all of it, without template arguments, its last part alone.

    Return type, arguments, qualifiers, casts of numbers and spaces are left out, so that the spelling of one demangler equals
    that of another.
    """
    if len(name) > MAX_PARSED_CHARS:
        return name, name, name
    if name.startswith("_Z"):
        plain = _mangled_base(name)
        return plain, plain, plain.rpartition("::")[2]
    text = _spelled(name)
    full = _without_types(text)
    base = _cut(full, "<", ">")
    return full, base, base.rpartition("::")[2] or base


def _spelled(name: str) -> str:
    """Return ``name`` with one spelling for lambdas, numbers and unnamed namespaces, and without lists of arguments."""
    text = name.replace("\\", ".").replace("/", ".")
    text = _ANONYMOUS.sub("", _CLONE.sub("", text))
    text = _CALL.sub("operator@", text)
    text = _CAST.sub("", text)
    text = _lambdas(text)
    text = _SUFFIX.sub(r"\1", text)
    text = re.sub(r"\b(?:true|false)\b", lambda word: _TRUTH[word[0]], text)
    return _cut(text, "(", ")")


def _lambdas(text: str) -> str:
    """Return ``text`` with ``@lambda1`` for what the demanglers write as ``{lambda(T)#1}`` and ``[lambda(T) (instance 1)]``."""
    kept: list[str] = []
    at = 0
    while found := _LAMBDA.search(text, at):
        end = _closing(text, found.end() - 1)
        numbered = (_INSTANCE if text[found.start()] == "[" else _NUMBERED).match(text, end)
        number = numbered[1] if numbered else found[1] or "1"
        kept += [text[at : found.start()], f"@lambda{number}"]
        at = numbered.end() if numbered else end
    return "".join(kept) + text[at:]


def _closing(text: str, start: int) -> int:
    """Return where the bracket at ``start`` is closed: the place behind it, or the end."""
    depth = 0
    for i in range(start, len(text)):
        depth += (text[i] == "(") - (text[i] == ")")
        if not depth:
            return i + 1
    return len(text)


def _cut(text: str, opening: str, closing: str) -> str:
    """Return ``text`` without what stands in brackets; a name that ends within them keeps what is before."""
    kept: list[str] = []
    depth = 0
    for char in text:
        if char == opening:
            depth += 1
        elif char == closing and depth:
            depth -= 1
        elif not depth:
            kept.append(char)
    return "".join(kept)


def _without_types(text: str) -> str:
    """Return ``text`` without qualifiers, return types and spaces: of words beside each other the last is the name."""
    text = _last_word(text.strip())
    text = _INTEGER.sub(lambda words: "_".join(sorted(words[0].split(), key=_word_order)).removesuffix("_int") or "int", text)
    text = re.sub(r"\s*([*&<>,]|::)\s*", r"\1", _QUALIFIER.sub(" ", text))
    parts = re.split(r"([<,>])", text)
    cleaned = [part if part in "<,>" else part.split()[-1] if part.split() else "" for part in parts]
    return "".join(cleaned)


def _last_word(text: str) -> str:
    """Return what follows the last space outside of brackets: the name behind its return type."""
    depth = 0
    for i in range(len(text) - 1, -1, -1):
        depth += (text[i] == ">") - (text[i] == "<")
        if text[i] == " " and not depth:
            return text[i + 1 :]
    return text


def _word_order(word: str) -> int:
    """Return where a word of an integer's type stands: ``unsigned long int``, however it was written."""
    return ("unsigned", "signed", "long", "short", "char", "double", "int").index(word)


def _mangled_base(name: str) -> str:
    """Return the qualified name in a mangled one, ``_ZN2at6native3fooI...``: its leading parts."""
    rest = name[3:] if name.startswith("_ZN") else name[2:]
    rest = re.sub(r"^[rVK]*", "", rest) if name.startswith("_ZN") else rest
    rest = rest[2:] if rest.startswith("St") else rest.removeprefix("L")
    parts: list[str] = []
    while found := re.match(r"(\d{1,4})", rest):
        length = int(found[1])
        part, rest = rest[found.end() : found.end() + length], rest[found.end() + length :]
        if not part.startswith("_GLOBAL__N_"):
            parts.append(part)
    return "::".join(parts) or name
