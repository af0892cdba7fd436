"""Litestream's single-dash long flags: `-txid X` means `--txid X`.

Go's flag package knows one kind of flag, and scripts written for Litestream use it with one dash. The names are a fixed
list, because a general rule cannot be right: `-o PATH` and `-f` are short flags, and `-force` must never be read as
`-f -o rce`. So: a name of the list is rewritten, `-flag=value` too; Go's `-flag=true` is the plain flag and
`-flag=false` is none; any other single-dash word of several letters is refused. Nothing behind `--` is touched, nor the
value of a flag.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from typing import Final

from litestream_py.errors import ConfigError

VALUE_FLAGS: Final = frozenset({
    "config", "exec", "follow-interval", "integrity-check", "level", "log-level", "parallelism", "replica", "socket",
    "timeout", "timestamp", "txid",
})  # fmt: skip
"""Long flags of Litestream's commands that take a value."""

SWITCHES: Final = frozenset({
    "dry-run", "enforce-retention", "force", "force-snapshot", "help", "if-db-not-exists", "if-replica-exists", "json",
    "no-expand-env", "once", "restore-if-db-not-exists", "verbose", "version", "wait",
})  # fmt: skip
"""Long flags of Litestream's commands that take none."""

_SHORT_WITH_VALUE: Final = frozenset({"-o"})
_WORD = re.compile(r"-([a-z][a-z-]+)(?:=(.*))?", re.ASCII | re.DOTALL)
_TRUTH: Final = {"1": True, "t": True, "true": True, "0": False, "f": False, "false": False}


def rewrite(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with Litestream's flags spelled with two dashes; raises ConfigError for an unknown word."""
    return list(_rewritten(iter(arguments)))


def _rewritten(words: Iterator[str]) -> Iterator[str]:
    for word in words:
        if word == "--":
            yield word
            yield from words
            return
        flag = _one(word)
        if flag is not None:
            yield flag
        takes_value = word.lstrip("-") in VALUE_FLAGS and word.startswith("-")
        if takes_value or word in _SHORT_WITH_VALUE:
            yield from _next(words)


def _next(words: Iterator[str]) -> Iterator[str]:
    value = next(words, None)
    if value is not None:
        yield value


def _one(word: str) -> str | None:
    """Return a word as click is to see it, or None if it is to vanish."""
    match = _WORD.fullmatch(word)
    if match is None:
        return word
    name, value = match[1], match[2]
    if name in VALUE_FLAGS:
        return f"--{name}" if value is None else f"--{name}={value}"
    if name not in SWITCHES:
        near = difflib.get_close_matches(name, VALUE_FLAGS | SWITCHES, n=1)
        hint = f"did you mean --{near[0]}?" if near else "long flags take two dashes; a short flag stands by itself"
        raise ConfigError("read", "command line", f"unknown flag {word.partition('=')[0]!r}", hint=hint)
    if value is None:
        return f"--{name}"
    truth = _TRUTH.get(value.lower())
    if truth is None:
        raise ConfigError("read", "command line", f"-{name} is on or off, not {value!r}", hint=f"write --{name}")
    return f"--{name}" if truth else None
