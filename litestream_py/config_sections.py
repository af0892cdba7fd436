"""Sections of a configuration into models: keys known, refused or misspelt, values good or bad, each with its line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Final, TypeVar

from pydantic import BaseModel, ValidationError

from litestream_py.config_model import DbKeys, GlobalKeys, L0Keys, LoggingConfig, ReplicaKeys, SnapshotKeys
from litestream_py.config_values import BadValueError
from litestream_py.config_yaml import Node, Scalar, Section, Sequence, Source
from litestream_py.errors import ConfigError

Model = TypeVar("Model", bound=BaseModel)

SECTIONS: Final[Mapping[str, type[BaseModel]]] = {
    "into the 'replica' of a database": ReplicaKeys,
    "into an entry of 'dbs'": DbKeys,
    "into 'logging'": LoggingConfig,
    "to the top level": GlobalKeys,
    "to the top level, beside 'dbs'": L0Keys,
    "into 'snapshot'": SnapshotKeys,
}
TOP_SECTIONS: Final = ("levels", "snapshot", "retention", "validation", "logging", "dbs")
"""Keys of the top level that hold more than one value."""


def keys_of(model: type[BaseModel]) -> dict[str, str]:
    """Return the keys that a model reads, and the field of each."""
    return {str(field.validation_alias): name for name, field in model.model_fields.items() if field.validation_alias}


def entries(node: Node, key: str, source: Source) -> list[Section]:
    """Return the mappings of a list; an empty value is an empty list."""
    if isinstance(node, Scalar) and not node.text:
        return []
    if not isinstance(node, Sequence):
        raise source.error(node.line, f"{key!r} is a list", "begin each entry with a dash")
    return [section(item, key, source) for item in node.items]


def section(node: Node, key: str, source: Source) -> Section:
    """Return a mapping; an empty value is an empty one."""
    if isinstance(node, Scalar) and not node.text:
        return Section(line=node.line)
    if not isinstance(node, Section):
        raise source.error(node.line, f"{key!r} is a mapping of keys to values")
    return node


def check_keys(found: Section, known: Iterable[str], refused: Mapping[str, str], source: Source) -> None:
    """Refuse keys that are not `known`: those of Litestream with what to do, the rest with the nearest known one."""
    known = list(known)
    for key, line in found.lines.items():
        if key in known:
            continue
        if key in refused:
            raise source.error(line, f"the option {key!r} of Litestream is not supported", refused[key])
        raise source.error(line, f"unknown key {key!r}", _advice(key, known))


def _advice(key: str, known: list[str]) -> str:
    place = next((place for place, model in SECTIONS.items() if key in keys_of(model)), None)
    if place is None and key in TOP_SECTIONS:
        place = "to the top level"
    if place is not None:
        return f"{key!r} belongs {place}"
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"


def read_model(model: type[Model], found: Section, source: Source) -> Model:
    """Return the model of those scalars of a section that are its keys.

    An empty value is the same as an absent key where absence is the default; elsewhere it is an error.
    """
    texts: dict[str, str] = {}
    for key, name in keys_of(model).items():
        node = found.values.get(key)
        if node is None:
            continue
        if not isinstance(node, Scalar):
            raise source.error(node.line, f"{key!r} takes one value")
        field = model.model_fields[name]
        if node.text:
            texts[key] = node.text
        elif field.is_required() or field.default is not None:
            raise source.error(node.line, f"{key!r} has no value", "give it one, or remove the key")
    try:
        return model.model_validate(texts)
    except ValidationError as errors:
        raise _bad_value(errors, found, source) from errors


def _bad_value(errors: ValidationError, found: Section, source: Source) -> ConfigError:
    located = [(found.lines.get(str(e["loc"][0]), found.line), e) for e in errors.errors(include_url=False)]
    line, first = min(located, key=lambda pair: pair[0])
    key = str(first["loc"][0])
    if first["type"] == "missing":
        return source.error(line, f"{key!r} is missing")
    bad = first.get("ctx", {}).get("error")
    if isinstance(bad, BadValueError):
        return source.error(line, f"{key!r}: {bad.cause}", bad.hint)
    return source.error(line, f"{key!r}: {first['msg']}")
