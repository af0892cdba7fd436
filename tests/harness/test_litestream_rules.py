"""The checker of Litestream's rules accepts what Litestream wrote, and notices what it would stumble over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from litestream_py.clients.factory import open_client
from litestream_py.clients.memory import MemoryClient, Stored
from litestream_py.core.ports import FileInfo
from litestream_py.ltx.decoder import decode
from litestream_py.ltx.encoder import encode
from litestream_py.ltx.ids import FileName
from litestream_py.ltx.records import Header
from tests.support import golden_replicas as golden
from tests.support.chains import History, sample
from tests.support.listings import name
from tests.support.litestream_rules import litestream_plan, violations


@pytest.mark.parametrize("case", [case for case in golden.SOUND if case != "multi-level-thinned"])
def test_what_litestream_wrote_keeps_the_rules(case: str, tmp_path: Path) -> None:
    """No replica that Litestream's daemon left breaks a rule."""
    assert violations(open_client(f"file://{golden.place(case, tmp_path)}")) == []


@pytest.mark.parametrize("case", golden.SOUND)
def test_the_plan_is_litestreams(case: str) -> None:
    """The planner that the checker asks takes the files that Litestream took, for every TXID."""
    listing: list[FileInfo] = golden.listing(case)
    for txid, out in golden.expect(case)["restore_txid"].items():
        if "error" in out:
            with pytest.raises(LookupError):
                litestream_plan(listing, int(txid, 16))
        else:
            plan = [f"{name.level}/{name.name}" for name in litestream_plan(listing, int(txid, 16))]
            assert plan == out["plan"]


def drop(client: MemoryClient, *names: FileName) -> object:
    return [client.files.pop(gone) for gone in names]


def rewrite(client: MemoryClient, history: History, txid: int, **fields: object) -> None:
    """Store the L0 file of a TXID again, with other header fields."""
    at, body = history.file(0, txid, txid)
    header = replace(Header.unpack(body), **fields)  # type: ignore[arg-type]
    client.files[at] = Stored(b"".join(encode(header, decode(body).pages)), 1_000 * txid)


def swapped(history: History, txid: int) -> bytes:
    """Return the reserved header bytes of an increment that goes back to the state before."""
    header = Header.unpack(history.file(0, txid, txid)[1])
    return header.with_lsyn(history.checksum(txid - 1), history.checksum(txid - 2)).reserved


BROKEN: dict[str, tuple[Callable[[MemoryClient, History], object], str]] = {
    "a level beyond L0": (lambda client, history: history.put(client, 2, 4, 9), "reaches beyond level 0"),
    "nothing in L0": (lambda client, _: drop(client, *[n for n in client.files if n.level == 0]), "level 0 is empty"),
    "merged newest": (
        lambda client, history: (drop(client, name("0:7"), name("0:8")), history.put(client, 0, 7, 8)),
        "holds several TXIDs",
    ),
    "gap in a level": (lambda client, _: drop(client, name("0:7")), "does not follow"),
    "gap in front of a level": (lambda client, _: drop(client, name("0:6")), "does not go on where level 1 ends"),
    "overlap in a level": (lambda client, history: history.put(client, 1, 3, 4), "does not follow"),
    "across the end": (
        lambda client, history: (
            drop(client, name("1:4-5")),
            history.put(client, 1, 4, 8),
            history.put(client, 2, 4, 5),
        ),
        "reaches across the end of level 2",
    ),
    "base only in L0": (
        lambda client, _: drop(client, name("9:1"), name("9:1-5")),
        "cannot restore the newest TXID after its L0 retention",
    ),
    "no base": (
        lambda client, _: drop(client, name("0:1"), name("9:1"), name("9:1-5")),
        "cannot restore the newest TXID: ",
    ),
    "no snapshot at 9": (lambda client, history: history.put(client, 9, 6, 7), "is no snapshot"),
    "no place in the WAL": (lambda client, history: rewrite(client, history, 4, wal_offset=0), "no place in the WAL"),
    "another time": (lambda client, history: rewrite(client, history, 4, timestamp_ms=5), "shows time"),
    "another page size": (lambda client, _: sample(1024).put(client, 3, 2, 3), "page sizes differ"),
    "another history": (
        lambda client, history: rewrite(client, history, 4, reserved=swapped(history, 4)),
        "disagree about the database at",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_rule_is_noticed(what: str) -> None:
    """A replica that breaks a rule is told of, in words that name the rule."""
    history = sample()
    for _ in range(2):
        history.commit({1}, 10)
    client = MemoryClient()
    for txid in range(1, 9):
        history.put(client, 0, txid, txid)
    for level, low, high in ((9, 1, 1), (1, 2, 3), (1, 4, 5), (2, 2, 3), (9, 1, 5)):
        history.put(client, level, low, high)
    assert violations(client) == []
    change, said = BROKEN[what]
    change(client, history)
    assert said in "\n".join(violations(client))
