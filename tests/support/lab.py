"""A database, its application and its tailer, as a fixture: after the test, what was replicated is restored and
compared page by page with the database, and every TXID that the test wrote down an image for with that image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from litestream_py import failpoints
from litestream_py.core.checkpoint import Checkpoint, CheckpointFacts
from litestream_py.core.state import SyncResult
from litestream_py.engine.chain import load_chain
from litestream_py.engine.checkpointer import CheckpointOutcome, checkpoint
from litestream_py.engine.events import Event, TailLimits
from litestream_py.engine.sick import heal
from litestream_py.engine.tailer import Tailer
from litestream_py.engine.walread import SickWal
from litestream_py.local.meta import MetaDir, default_meta_path
from litestream_py.ltx.ids import TXID
from litestream_py.wal.records import FRAME_HEADER_SIZE
from tests.support.app import App
from tests.support.oracle import Replay, difference, l0_files, replay

LIMITS = TailLimits(lock_wait_s=1.0, attach_wait_s=2.0, busy_timeout_s=0.05)


class Lab:
    """One database `path`, with an application process and at most one tailer at a time.

    limits: of tailers opened from now on. app_timeout_s: the busy timeout of applications started from now on. events:
    what the tailers published. expected: image hash by TXID, checked at the end. unverified: set to a reason where the
    end of a test is no state that could be compared.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "app.db"
        self.limits = LIMITS
        self.app_timeout_s = 5.0
        self.events: list[Event] = []
        self.expected: dict[TXID, str] = {}
        self.unverified: str | None = None
        self._clock = 1_700_000_000_000
        self._exits = ExitStack()
        self._app: App | None = None
        self._tailer: Tailer | None = None

    # --- the application ---

    @property
    def app(self) -> App:
        """The application; started when first asked for, and again after a crash."""
        if self._app is None:
            self._app = self._exits.enter_context(App(self.path, timeout_s=self.app_timeout_s))
        return self._app

    def other_app(self, *, timeout_s: float = 5.0) -> App:
        """Start one more application process."""
        return self._exits.enter_context(App(self.path, timeout_s=timeout_s))

    def crash_app(self) -> None:
        """Kill the application."""
        if self._app is not None:
            self._app.crash()
            self._app = None

    def create(self, *statements: str, page_size: int = 4096, autocheckpoint: int = 0) -> App:
        """Make the database in WAL mode, with a table t(id, b)."""
        self.app.sql(
            f"pragma page_size={page_size}",
            "pragma journal_mode=wal",
            f"pragma wal_autocheckpoint={autocheckpoint}",
            "create table t(id integer primary key, b)",
            *statements,
        )
        return self.app

    # --- the tailer ---

    def now_ms(self) -> int:
        """A clock that moves a millisecond a call."""
        self._clock += 1
        return self._clock

    @property
    def l0(self) -> Path:
        """The folder of the L0 log."""
        return default_meta_path(self.path) / "ltx" / "0"

    @property
    def newest(self) -> TXID:
        """The newest TXID of the L0 log, 0 if there is none."""
        files = l0_files(self.l0)
        return files[-1].max_txid if files else TXID(0)

    @property
    def tailer(self) -> Tailer:
        """The tailer; opened and attached when first asked for, and again after `stop`."""
        if self._tailer is None:
            tailer = Tailer(self.path, MetaDir(default_meta_path(self.path)), self.limits, self.events.append)
            self._exits.callback(tailer.close)
            tailer.open()
            self._tailer = tailer
        if not self._tailer.attached:
            self._healing(self.attach)
        return self._tailer

    def attach(self) -> SyncResult | None:
        """Derive the state from disk, as the daemon does where there is no replica to ask."""
        assert self._tailer is not None
        try:
            return self._tailer.attach(load_chain(self._tailer.meta), now_ms=self.now_ms())
        except BaseException:
            self._tailer.drop()
            raise

    def stop(self) -> None:
        """Close the tailer."""
        if self._tailer is not None:
            self._tailer.close()
            self._tailer = None

    def sync(self) -> list[SyncResult]:
        """Copy everything that is committed, healing a sick WAL; returns the results."""
        tailer, results = self.tailer, []
        while (result := self._healing(lambda: tailer.sync(now_ms=self.now_ms()))) is not None:
            results.append(result)
        return results

    def _healing(self, step: Callable[[], SyncResult | None]) -> SyncResult | None:
        try:
            return step()
        except SickWal as sick:
            assert self._tailer is not None
            healed = heal(self._tailer, sick, now_ms=self.now_ms())
            return healed if self._tailer.attached else self.attach()

    def checkpoint(self, what: Checkpoint = Checkpoint.SEAL) -> CheckpointOutcome:
        """Seal, or truncate."""
        return checkpoint(self.tailer, what, now_ms=self.now_ms)

    def checkpoint_facts(self) -> CheckpointFacts:
        """Return what `choose_checkpoint` decides from; without a history of failures."""
        state, files = self.tailer.state, self.tailer.files
        return CheckpointFacts(
            index=files.read_index(),
            wal_file_pages=files.wal_size() // (FRAME_HEADER_SIZE + state.page_size),
            may_restart=state.sealed and state.file_complete,
            changed=state.synced_since_checkpoint,
            last_s=0.0,
        )

    def truncate(self) -> CheckpointOutcome:
        """Seal and truncate."""
        return self.checkpoint(Checkpoint.TRUNCATE)

    def note(self) -> TXID:
        """Sync, and write down the image that the newest TXID must restore to."""
        self.sync()
        txid = self.tailer.state.txid
        image = self.app.image()
        assert self.expected.setdefault(txid, image) == image, f"the database changed, and TXID {txid} did not"
        return txid

    # --- the end ---

    def check(self) -> Replay:
        """Restore every TXID, compare those written down, and the newest with the database; returns the newest."""
        self.sync()
        wrong = []
        state = Replay()
        for state in replay(self.l0):
            if state.txid in self.expected and state.sha256() != self.expected[state.txid]:
                wrong.append(f"TXID {state.txid} does not restore to the bytes seen at its time")
        assert state.txid == self.tailer.state.txid
        image = self.folder / "image"
        self.app.image(image)
        if found := difference(state.image(), image.read_bytes(), state.page_size):
            wrong.append(f"newest TXID {state.txid}: {found}")
        assert not wrong, "\n".join(wrong)
        return state

    def close(self) -> None:
        """End every process and connection."""
        self._exits.close()


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """A database with its application and its tailer, compared with its restore after the test."""
    laboratory = Lab(tmp_path)
    try:
        yield laboratory
        failpoints.disarm()
        if laboratory.unverified is None and laboratory.path.exists():
            laboratory.check()
    finally:
        failpoints.disarm()
        laboratory.close()
