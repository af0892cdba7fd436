"""`decide_continuity` as a table."""

from __future__ import annotations

from dataclasses import replace

import pytest

from litestream_py.core.continuity import AttachFacts, Continue, LocalChain, Resync, decide_continuity
from litestream_py.core.position import FileFacts, WalPosition
from litestream_py.ltx.ids import TXID
from litestream_py.wal.records import frame_offset
from tests.support.indexes import wal_index

FILE = FileFacts(device=1, inode=2, size=40960, mtime_ns=10**18, change_counter=9)
POSITION = WalPosition((1, 2), frame_offset(4, 4096), (5, 6))
CHAIN = LocalChain(
    txid=TXID(7),
    database_checksum=1 << 63,
    page_size=4096,
    commit=10,
    wal=POSITION,
    file=FILE,
    file_complete=True,
    timestamp_ms=1,
)
FACTS = AttachFacts(file=FILE, index=wal_index(5), last_frame_intact=True)
GONE = replace(FACTS, index=wal_index(0, salts=(8, 8)), last_frame_intact=False)


@pytest.mark.parametrize(
    ("chain", "facts", "decision"),
    [
        pytest.param(CHAIN, FACTS, Continue(POSITION), id="frame intact, more behind it"),
        pytest.param(CHAIN, replace(FACTS, index=wal_index(3)), Continue(POSITION), id="nothing new"),
        pytest.param(
            CHAIN,
            replace(FACTS, file=replace(FILE, mtime_ns=1, size=1, change_counter=1)),
            Resync("database-written-while-away"),
            id="somebody wrote to the file meanwhile",
        ),
        pytest.param(replace(CHAIN, file=None), FACTS, Resync("position-unknown"), id="position from the L0 header"),
        pytest.param(CHAIN, GONE, Continue(WalPosition((8, 8), 32, (0, 0))), id="no WAL, file as recorded"),
        pytest.param(replace(CHAIN, file_complete=False), GONE, Resync("wal-gone"), id="no WAL, file was not complete"),
        *[
            pytest.param(
                CHAIN, replace(GONE, file=replace(FILE, **{name: 7})), Resync("wal-gone"), id=f"no WAL, {name}"
            )
            for name in ("size", "mtime_ns", "change_counter")
        ],
        pytest.param(replace(CHAIN, file=None), GONE, Resync("wal-gone"), id="no WAL, no facts"),
        *[
            pytest.param(
                CHAIN,
                replace(facts, file=replace(FILE, **{name: 7})),
                Resync("database-replaced"),
                id=f"{name} {label}",
            )
            for name in ("device", "inode")
            for label, facts in (("with WAL", FACTS), ("without", GONE))
        ],
        pytest.param(replace(CHAIN, wal=None), FACTS, Resync("position-unknown"), id="after a comparison's L0"),
        pytest.param(
            CHAIN,
            replace(FACTS, index=wal_index(5, salts=(8, 8))),
            Resync("wal-restarted-while-away"),
            id="other salts",
        ),
        pytest.param(CHAIN, replace(FACTS, index=wal_index(2)), Resync("wal-shorter-than-position"), id="shorter"),
        pytest.param(CHAIN, replace(FACTS, last_frame_intact=False), Resync("wal-rewritten"), id="frame not intact"),
    ],
)
def test_decide_continuity(chain: LocalChain, facts: AttachFacts, decision: Continue | Resync) -> None:
    """Continue only by proof; anything else is compared, with its own reason."""
    assert decide_continuity(chain, facts) == decision
