"""Litestream's single-dash flags are rewritten by a fixed list; everything else is left alone or refused."""

from __future__ import annotations

import pytest

from litestream_py.cli.argv import rewrite
from litestream_py.errors import ConfigError


@pytest.mark.parametrize(
    ("given", "seen"),
    [
        ("restore -txid 0001 -o out db", "restore --txid 0001 -o out db"),
        ("restore db -txid=0001 -if-db-not-exists", "restore db --txid=0001 --if-db-not-exists"),
        ("restore -config=/a=b -dry-run=true", "restore --config=/a=b --dry-run"),
        ("restore -json=false -force=F db", "restore db"),
        ("restore -f -o -txid db", "restore -f -o -txid db"),
        ("replicate -exec -config -log-level debug", "replicate --exec -config --log-level debug"),
        ("replicate --exec -txid", "replicate --exec -txid"),
        ("replicate -- -txid -junk", "replicate -- -txid -junk"),
        ("ltx -level all -h", "ltx --level all -h"),
        ("ltx -txid", "ltx --txid"),
        ("version -verbose -help", "version --verbose --help"),
        ("restore --anything -o./x -1 -", "restore --anything -o./x -1 -"),
    ],
)
def test_flags_are_rewritten_by_name(given: str, seen: str) -> None:
    """One dash becomes two for the names of the list; values, short flags and what is behind `--` stay."""
    assert rewrite(given.split()) == seen.split()


@pytest.mark.parametrize(
    ("word", "cause", "hint"),
    [
        ("-forse", "unknown flag '-forse'", "did you mean --force?"),
        ("-outfile", "unknown flag '-outfile'", "two dashes"),
        ("-fo", "unknown flag '-fo'", "two dashes"),
        ("-txidd=1", "unknown flag '-txidd'", "did you mean --txid?"),
        ("-json=perhaps", "-json is on or off, not 'perhaps'", "write --json"),
    ],
)
def test_what_could_be_misread_is_refused(word: str, cause: str, hint: str) -> None:
    """A misspelt flag never falls apart into short ones: `-forse` is not `-f -o rse`."""
    with pytest.raises(ConfigError) as caught:
        rewrite(["restore", word])
    assert cause in caught.value.cause
    assert hint in (caught.value.hint or "")
    assert caught.value.exit_code == 2
