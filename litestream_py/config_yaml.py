"""Strict YAML: mappings, sequences and scalars that remember their lines; what is doubtful is an error.

1. Scalars stay text. What `yes`, `0123` or `1e3` means is decided by the key it belongs to, not by YAML.
2. A key that stands twice in a mapping is an error, as are keys that are no text, tags (`!x`) and a second document.
3. Aliases (`*x`) and merge keys (`<<: *x`) work; an alias to what contains it is an error.
4. `$NAME` and `${NAME}` are replaced in scalars, after YAML has found them: never in comments or keys, and a value may
   hold `#` or `: ` without harm. `$$` is one dollar sign; a dollar before anything else stays. A variable that is not
   set is an error that names it. (Litestream expands the whole text beforehand, comments too, and takes an unset
   variable for empty.)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import yaml

from litestream_py.errors import ConfigError

_CORE: Final = "tag:yaml.org,2002:"
_NULL: Final = f"{_CORE}null"
_MERGE: Final = f"{_CORE}merge"
_PLAIN_TAGS: Final = frozenset(_CORE + name for name in ("str", "int", "float", "bool", "null", "timestamp", "value"))
_VARIABLE = re.compile(r"\$(?:(\$)|\{([^}]*)(\}?)|([A-Za-z_][A-Za-z0-9_]*))", re.ASCII)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Scalar:
    """One value: its text ("" for null) and the line it starts on, from 1."""

    text: str
    line: int


@dataclass(frozen=True, slots=True)
class Sequence:
    """A list of values."""

    items: tuple[Node, ...]
    line: int


@dataclass(frozen=True, slots=True)
class Section:
    """A mapping: its values by key, and the line of each key."""

    values: dict[str, Node] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    line: int = 1


Node: TypeAlias = Scalar | Sequence | Section


@dataclass(frozen=True, slots=True)
class Source:
    """Where a configuration comes from: `name` is told in errors; `env` is what variables expand to (None: nothing)."""

    name: str
    env: Mapping[str, str] | None

    def error(self, line: int, cause: str, hint: str | None = None) -> ConfigError:
        """Return the error for a line of this source."""
        return ConfigError("read configuration", f"{self.name}:{line}", cause, hint=hint)


def parse_yaml(text: str, source: Source) -> Section:
    """Return the mapping that a text holds; an empty text is an empty mapping. Raises ConfigError with the line."""
    node = _compose(text, source)
    if node is None:
        return Section()
    root = _convert(node, source, ())
    if isinstance(root, Scalar) and not root.text:
        return Section()
    if not isinstance(root, Section):
        raise source.error(root.line, "a configuration is a mapping", "see `docs/configuration.md`")
    return root


def _compose(text: str, source: Source) -> yaml.Node | None:
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise source.error(mark.line + 1 if mark else 1, f"not valid YAML: {error.problem or error.context}") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise source.error(line, f"not valid YAML: the character U+{ord(text[error.position]):04X}") from error
    except RecursionError as error:
        raise source.error(1, "not valid YAML: nested too deeply") from error
    except (ValueError, OverflowError) as error:
        # An escape such as "\UFFFFFFFF" that is no character.
        raise source.error(1, f"not valid YAML: {error}") from error


def _convert(node: yaml.Node, source: Source, parents: tuple[yaml.Node, ...]) -> Node:
    line = node.start_mark.line + 1
    if any(node is parent for parent in parents):
        raise source.error(line, "an alias to what contains it")
    if isinstance(node, yaml.ScalarNode):
        if node.tag not in _PLAIN_TAGS:
            raise source.error(line, f"the tag {node.tag!r} is not supported")
        if not _is_text(node.value):
            raise source.error(line, "half of a surrogate pair is no text")
        return Scalar("" if node.tag == _NULL else expand(node.value, source, line), line)
    inside = (*parents, node)
    if isinstance(node, yaml.SequenceNode) and node.tag == f"{_CORE}seq":
        return Sequence(tuple(_convert(item, source, inside) for item in node.value), line)
    if isinstance(node, yaml.MappingNode) and node.tag == f"{_CORE}map":
        return _mapping(node, source, inside)
    raise source.error(line, f"the tag {node.tag!r} is not supported")


def _is_text(value: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in value)


def _mapping(node: yaml.MappingNode, source: Source, inside: tuple[yaml.Node, ...]) -> Section:
    section = Section(line=node.start_mark.line + 1)
    merged: list[Section] = []
    for key, value in node.value:
        line = key.start_mark.line + 1
        if key.tag == _MERGE:
            merged += _merged(_convert(value, source, inside), source, line)
            continue
        is_word = isinstance(key, yaml.ScalarNode) and key.tag in _PLAIN_TAGS
        if not is_word or not key.value or not _is_text(key.value):
            raise source.error(line, "a key must be a word")
        if key.value in section.values:
            first = section.lines[key.value]
            raise source.error(line, f"the key {key.value!r} stands here and on line {first}", "keep one of the two")
        section.values[key.value] = _convert(value, source, inside)
        section.lines[key.value] = line
    for other in merged:
        for name, item in other.values.items():
            if name not in section.values:
                section.values[name] = item
                section.lines[name] = other.lines[name]
    return section


def _merged(value: Node, source: Source, line: int) -> list[Section]:
    parts = list(value.items) if isinstance(value, Sequence) else [value]
    if not all(isinstance(part, Section) for part in parts):
        raise source.error(line, "only a mapping, or a list of mappings, can be merged")
    return [part for part in parts if isinstance(part, Section)]


def expand(text: str, source: Source, line: int) -> str:
    """Return a scalar with its variables replaced (rule 4); raises ConfigError for one that is not set."""
    env = source.env
    if env is None or "$" not in text:
        return text

    def value(match: re.Match[str]) -> str:
        dollar, braced, closed, plain = match.groups()
        if dollar:
            return "$"
        name = plain or braced
        if plain is None and (not closed or not _NAME.fullmatch(braced)):
            # What stands there may be part of a password: it is not repeated.
            raise source.error(line, "'${' begins no variable's name", "write ${NAME}; $$ stands for a dollar sign")
        if name not in env:
            raise source.error(
                line,
                f"the environment variable {name!r} is not set",
                "set it, write $$ for a dollar sign, or turn expansion off with --no-expand-env",
            )
        return env[name]

    return _VARIABLE.sub(value, text)
