"""The strict YAML reader: lines, duplicates, variables, aliases; and never an error but ours."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from litestream_py.config_yaml import Node, Scalar, Section, Sequence, Source, parse_yaml
from litestream_py.errors import ConfigError

ENV = {"NAME": "value", "HASH": "a # b: c", "EMPTY": ""}


def parse(text: str) -> Section:
    """Parse with the variables of `ENV`."""
    return parse_yaml(text, Source("t.yml", ENV))


def plain(node: Node) -> object:
    """Return a tree without its lines."""
    if isinstance(node, Scalar):
        return node.text
    if isinstance(node, Sequence):
        return [plain(item) for item in node.items]
    return {key: plain(value) for key, value in node.values.items()}


def test_scalars_stay_text_and_remember_lines() -> None:
    """YAML's own ideas of numbers, truth and dates change nothing; null is empty."""
    section = parse("a: 0123\nb: yes\nc:\n  - 1e3\n  - 2026-11-20\n  - ~\n")
    assert plain(section) == {"a": "0123", "b": "yes", "c": ["1e3", "2026-11-20", ""]}
    assert section.lines == {"a": 1, "b": 2, "c": 3}
    items = section.values["c"]
    assert isinstance(items, Sequence)
    assert [item.line for item in items.items] == [4, 5, 6]


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "~"])
def test_nothing_is_an_empty_mapping(text: str) -> None:
    """An empty file, or one of comments, has no keys."""
    assert parse(text) == Section(line=1)


def test_variables_expand_in_scalars_only() -> None:
    """A value may hold what YAML would read as syntax; keys and comments are left alone."""
    section = parse("$NAME: x # ${UNSET}\na: $NAME-${NAME}\nb: '$HASH'\nc: $EMPTY\nd: pa$$NAME$\ne: cost 5$!\n")
    assert plain(section) == {
        "$NAME": "x", "a": "value-value", "b": "a # b: c", "c": "", "d": "pa$NAME$", "e": "cost 5$!",
    }  # fmt: skip


def test_expansion_can_be_turned_off() -> None:
    """Without an environment a dollar sign is a dollar sign."""
    assert plain(parse_yaml("a: $$x${y\n", Source("t.yml", None))) == {"a": "$$x${y"}


def test_aliases_and_merge_keys_work() -> None:
    """Merged keys keep the line they were written on and give way to the section's own."""
    section = parse("x: &x {a: 1, b: 2}\ny:\n  <<: *x\n  b: 3\nz:\n  <<: [*x, {c: 4}]\n")
    assert plain(section) == {
        "x": {"a": "1", "b": "2"}, "y": {"a": "1", "b": "3"}, "z": {"a": "1", "b": "2", "c": "4"},
    }  # fmt: skip
    merged = section.values["y"]
    assert isinstance(merged, Section)
    assert merged.lines == {"a": 1, "b": 4}


@pytest.mark.parametrize(
    ("text", "line", "cause"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "the key 'a' stands here and on line 1"),
        ("a:\n  b: 1\n  b: 1\n", 3, "the key 'b' stands here and on line 2"),
        ("a: $UNSET\n", 1, "the environment variable 'UNSET' is not set"),
        ("x: 1\na: ${}\n", 2, "'${' begins no variable's name"),
        ("a: ${NAME\n", 1, "'${' begins no variable's name"),
        ("- a\n", 1, "a configuration is a mapping"),
        ("just text", 1, "a configuration is a mapping"),
        ("a: !!python/object:os.system x\n", 1, "the tag 'tag:yaml.org,2002:python/object:os.system' is not supported"),
        ("a: !mine {b: 1}\n", 1, "the tag '!mine' is not supported"),
        ("a: !!binary YQ==\n", 1, "is not supported"),
        ("[a, b]: 1\n", 1, "a key must be a word"),
        ("a: &x [1, *x]\n", 1, "an alias to what contains it"),
        ("a:\n  <<: 1\n", 2, "only a mapping, or a list of mappings, can be merged"),
        ("a: 1\n b: 2\n", 2, "not valid YAML"),
        ("a: 'x\n", 2, "not valid YAML"),
        ("a: *nobody\n", 1, "not valid YAML"),
        ("a: 1\n---\nb: 2\n", 2, "not valid YAML"),
        ("b: 1\na: \x07\n", 2, "not valid YAML: the character U+0007"),
        ("a: @b\n", 1, "not valid YAML"),
        ('a: "\\UFFFFFFFF"\n', 1, "not valid YAML"),
        ('b: 1\na: "\\ud800"\n', 2, "half of a surrogate pair"),
        ("[" * 5000, 1, "not valid YAML: nested too deeply"),
    ],
)
def test_what_is_doubtful_is_an_error_with_its_line(text: str, line: int, cause: str) -> None:
    """Each error names the file, the line and what is wrong."""
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert caught.value.obj == f"t.yml:{line}"
    assert cause in caught.value.cause
    assert caught.value.exit_code == 2


def test_a_broken_variable_is_not_repeated() -> None:
    """What looks like a variable may be a piece of a password."""
    with pytest.raises(ConfigError) as caught:
        parse("secret-access-key: ab${HUSH!x}yz\n")
    assert "HUSH" not in f"{caught.value}{caught.value.hint}"


@given(st.text(alphabet="ab:-[]{}&*!|>\\uU8F'\"#%@`,? \n\t$<~0.é\x00\x85\ufeff", max_size=40))
def test_no_text_brings_another_error(text: str) -> None:
    """Whatever a file holds, it is read or refused with our own error."""
    try:
        assert isinstance(parse(text), Section)
    except ConfigError as error:
        assert error.obj.startswith("t.yml:")  # noqa: PT017 - the error is one of two right answers
