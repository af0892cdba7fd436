"""State and rules of a small model of tailing a WAL (design section 2), for exhaustive exploration.

One database, one application that writes and checkpoints as it likes, one tailer. Every frame carries an identifier
that is never used again and stands for the content of a page of its own: so the content of the database, or of the
replica, is the set of the identifiers whose frames went into it, and a frame that is skipped can never be hidden by a
later one. Sets are bit masks: identifier i is bit i.

What is one step here is one step of SQLite or of the tailer that nothing can come between; what takes several there
takes several here. Where the code would choose (when to sync, to seal, to hand over), the model tries every order.
Other readers of the application are not in the state: whatever they could stop may just not happen.

Left out: power loss, replaced files, SQLite's WAL-reset and savepoint bugs, pages that one version overwrites with
another, databases that shrink.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import NamedTuple

Step = tuple[str, "State"]
Steps = Iterator[Step]

NO_READER = -1
SLOT_0 = 0
"""A reader on slot 0 reads the database file only. A greater number is a mark held on one of the slots 1 to 4."""


class Handover(Enum):
    """When the tailer may move its read mark forward without the write lock."""

    FORWARD = "mxFrame > nBackfill, and mxFrame is beyond the mark that is held"
    NOT_BACKFILLED = "mxFrame > nBackfill at the moment of asking"
    ANY = "always"


@dataclass(frozen=True)
class Rules:
    """The rules that keep the tailer from losing a commit; each can be taken away to see what it is for.

    barrier_at_seal: the position is sealed under the write lock. handover: see there. salts_rechecked: after the pages
    were read, and before anything is published, the generation must still be the same. published_frames_only: frames
    behind mxFrame are not read, whatever the file holds. empty_generation_judged: an empty WAL of another generation is
    a loss of continuity too, if the position is not sealed.
    """

    barrier_at_seal: bool = True
    handover: Handover = Handover.FORWARD
    salts_rechecked: bool = True
    published_frames_only: bool = True
    empty_generation_judged: bool = True


@dataclass(frozen=True)
class Bounds:
    """How much may happen: the depth of the exploration."""

    frames: int = 4
    transaction_frames: int = 1
    restarts: int = 2
    tailer_crashes: int = 1
    tailer_errors: int = 1
    writer_crashes: int = 0


class Frame(NamedTuple):
    """A frame in the WAL file. generation 0: its checksum no longer chains on. ends: it commits its transaction."""

    generation: int
    ident: int
    ends: bool


class Writer(IntEnum):
    """Where the application's writer stands; LOCKED and WRITTEN hold the write lock."""

    IDLE = 0
    LOCKED = 1
    WRITTEN = 2


class At(IntEnum):
    """Where the tailer stands."""

    DOWN = 0
    IDLE = 1
    SCAN = 2
    READ_PAGES = 3
    PUBLISH = 4
    HANDOVER_BEGIN = 5
    HANDOVER_END = 6
    SEAL_SYNC = 7
    SEAL_END_READER = 8
    SEAL_START_READER = 9
    LOST = 10
    RESYNC_FILE = 11
    RESYNC_WAL = 12


class State(NamedTuple):
    """Everything: what SQLite shares, what the tailer knows, what survives a crash, and the truth beside it."""

    # the wal-index, the database file and the WAL file
    generation: int = 1
    mx_frame: int = 0
    n_backfill: int = 0
    database: int = 0
    header: int = 0
    """Generation in the header of the WAL file; 0: the file is empty."""
    wal: tuple[Frame, ...] = ()
    # the application
    writer: Writer = Writer.IDLE
    written: int = 0
    """Frames that the writer has written and not yet published."""
    # the tailer, in memory
    at: At = At.DOWN
    reader: int = NO_READER
    new_reader: int = NO_READER
    barrier: bool = False
    sealing: bool = False
    sealed: bool = False
    noted: tuple[int, int, int] = (0, 0, 0)
    """Generation, first frame - 1, and last frame of what is being read."""
    pages: int = 0
    # the tailer, on disk
    replica: int = 0
    position: tuple[int, int] = (1, 0)
    """Generation, and how many of its frames the replica holds."""
    file_is_position: bool = True
    """The database file alone is the state at the position, and nobody has written to it since."""
    # the truth, and what is used up
    published: tuple[int, ...] = ()
    """For each identifier the generation in which its frame was committed, 0 if it never was."""
    bases: tuple[int, ...] = (0,)
    """For each generation the number of identifiers that were used before it began."""
    tailer_crashes: int = 0
    tailer_errors: int = 0
    writer_crashes: int = 0


def committed_before(state: State, position: tuple[int, int]) -> int:
    """Return the content of the database at a position: every commit up to it, whatever generation it was in."""
    generation, frames = position
    last = state.bases[generation - 1]
    if frames:
        of_generation = [ident for ident, where in enumerate(state.published, 1) if where == generation]
        last = max(of_generation[:frames], default=last)
    return sum(1 << ident for ident, where in enumerate(state.published[:last], 1) if where)


def committed(state: State) -> int:
    """Return the content of the database now."""
    return sum(1 << ident for ident, where in enumerate(state.published, 1) if where)


def loss(state: State) -> str | None:
    """Return in what the replica differs from the database at its position, or None."""
    expected = committed_before(state, state.position)
    if state.replica == expected:
        return None
    missing, foreign = expected & ~state.replica, state.replica & ~expected
    where = f"at frame {state.position[1]} of generation {state.position[0]} the replica"
    said = [f"lacks {idents(missing)}"] if missing else []
    said += [f"holds {idents(foreign)}, which is not of that state"] if foreign else []
    return f"{where} {' and '.join(said)}"


def content(frames: tuple[Frame, ...]) -> int:
    """Return the content that frames stand for."""
    mask = 0
    for frame in frames:
        mask |= 1 << frame.ident
    return mask


def slot_for_new_reader(state: State) -> int:
    """Return what a read transaction that begins now holds: slot 0 on a fully backfilled WAL, else a mark."""
    return SLOT_0 if state.n_backfill == state.mx_frame else state.mx_frame


def readers(state: State) -> tuple[int, ...]:
    """Return what the tailer's read transactions hold."""
    return tuple(reader for reader in (state.reader, state.new_reader) if reader != NO_READER)


def write_lock_free(state: State) -> bool:
    """Whether the write lock can be had at once."""
    return state.writer is Writer.IDLE and not state.barrier


def describe(state: State) -> str:
    """Return a state on one line, for a trace."""
    wal = " ".join(f"{frame.generation or 'x'}:{frame.ident}" for frame in state.wal) or "empty"
    slots = ",".join("slot 0" if reader == SLOT_0 else f"mark {reader}" for reader in readers(state)) or "none"
    flags = "".join(f" {name}" for name in ("sealed", "barrier") if getattr(state, name))
    return (
        f"gen {state.generation} mx {state.mx_frame} backfilled {state.n_backfill} | db {idents(state.database)}"
        f" | wal[{state.header}] {wal} | reader {slots}{flags} | position {state.position[0]}:{state.position[1]}"
        f" replica {idents(state.replica)}"
    )


def idents(mask: int) -> str:
    """Return a set of identifiers in braces."""
    return "{" + ",".join(str(bit) for bit in range(mask.bit_length()) if mask >> bit & 1) + "}"
