"""What the application does: commit, restart the WAL, checkpoint in every mode, crash. SQLite's rules, not ours.

Sources: SQLite's wal.c (walRestartLog, walRestartHdr, walFrames, walCheckpoint, walIndexRecover).
"""

from __future__ import annotations

from tests.model.model import (
    SLOT_0,
    At,
    Bounds,
    Frame,
    State,
    Steps,
    Writer,
    content,
    readers,
    write_lock_free,
)


def steps(state: State, bounds: Bounds) -> Steps:
    """Yield everything that the application can do next."""
    if state.writer is Writer.IDLE:
        yield from _begin(state, bounds)
        yield from _truncate(state, bounds)
        yield from _recover(state)
    elif state.writer is Writer.LOCKED:
        yield from _write(state, bounds)
    else:
        yield from _publish(state)
    yield from _crash(state, bounds)
    yield from _checkpoint(state)


def restartable(state: State) -> bool:
    """Whether a WAL can begin again at frame 1: wholly backfilled, and no reader on a slot above 0."""
    return state.n_backfill == state.mx_frame and all(reader == SLOT_0 for reader in readers(state))


def _begin(state: State, bounds: Bounds) -> Steps:
    """Take the write lock, to append; or, from slot 0 on a WAL that is not empty, to begin a new generation first.

    Even where it can restart, a writer whose read transaction began earlier appends.
    """
    if not write_lock_free(state) or len(state.published) >= bounds.frames:
        return
    yield "writer takes the write lock", state._replace(writer=Writer.LOCKED)
    if state.mx_frame and restartable(state) and len(state.bases) <= bounds.restarts:
        yield "writer takes the write lock and restarts the WAL", _new_generation(state)._replace(writer=Writer.LOCKED)


def _new_generation(state: State) -> State:
    # The wal-index gets new salts at once, the header in the file only with the next frame.
    return state._replace(
        generation=len(state.bases) + 1, mx_frame=0, n_backfill=0, bases=(*state.bases, len(state.published))
    )


def _write(state: State, bounds: Bounds) -> Steps:
    """Write the frames of one transaction, over whatever stands there; nobody is told yet."""
    for count in range(1, bounds.transaction_frames + 1):
        first = len(state.published) + 1
        if first + count - 1 > bounds.frames:
            return
        frames = tuple(Frame(state.generation, first + i, i == count - 1) for i in range(count))
        behind = tuple(
            frame._replace(generation=0) if frame.generation == state.generation else frame
            for frame in state.wal[state.mx_frame + count :]
        )
        yield (
            f"writer writes {count} frame(s) from {state.mx_frame + 1} on",
            state._replace(
                writer=Writer.WRITTEN,
                written=count,
                header=state.generation if state.mx_frame == 0 else state.header,
                wal=state.wal[: state.mx_frame] + frames + behind,
                published=state.published + (0,) * count,
            ),
        )


def _publish(state: State) -> Steps:
    published = state.published[: -state.written] + (state.generation,) * state.written
    yield (
        f"writer publishes mxFrame {state.mx_frame + state.written}: committed",
        state._replace(writer=Writer.IDLE, written=0, mx_frame=state.mx_frame + state.written, published=published),
    )


def _crash(state: State, bounds: Bounds) -> Steps:
    """The writer dies, or rolls back: its lock goes, its frames stay in the file, identifiers are not used again."""
    if state.writer is not Writer.IDLE and state.writer_crashes < bounds.writer_crashes:
        yield (
            "writer crashes or rolls back",
            state._replace(writer=Writer.IDLE, written=0, writer_crashes=state.writer_crashes + 1),
        )


def _recover(state: State) -> Steps:
    """With nobody connected, the next to come rebuilds the wal-index from the file: its valid, committed prefix."""
    if state.at is not At.DOWN or not state.header:
        return
    valid = 0
    for number, frame in enumerate(state.wal, 1):
        if frame.generation != state.header:
            break
        if frame.ends:
            valid = number
    published = list(state.published)
    for frame in state.wal[:valid]:
        published[frame.ident - 1] = state.header
    recovered = state._replace(generation=state.header, mx_frame=valid, n_backfill=0, published=tuple(published))
    if recovered != state:
        yield "everybody had gone; the next one recovers the WAL from its file", recovered


def _checkpoint(state: State) -> Steps:
    """PASSIVE copies up to any frame that no reader's mark forbids; FULL and RESTART hold the write lock and copy all.

    RESTART then waits for the readers to leave: it changes nothing itself, the next writer restarts. Without the lock
    each of them is a PASSIVE. A reader on slot 0 stops all copying.
    """
    held = readers(state)
    if state.n_backfill == state.mx_frame or SLOT_0 in held:
        return
    limit = min((state.mx_frame, *held))
    for upto in range(state.n_backfill + 1, limit + 1):
        backfilled = state._replace(
            n_backfill=upto,
            database=state.database | content(state.wal[state.n_backfill : upto]),
            file_is_position=False,
        )
        yield f"checkpoint PASSIVE copies up to frame {upto}", backfilled
        if upto == state.mx_frame and write_lock_free(state):
            yield f"checkpoint FULL copies up to frame {upto}", backfilled
            if not held:
                yield f"checkpoint RESTART copies up to frame {upto}", backfilled


def _truncate(state: State, bounds: Bounds) -> Steps:
    """TRUNCATE, of the application or ours: copies all, begins a new generation, and empties the file."""
    if not write_lock_free(state) or not state.header or len(state.bases) > bounds.restarts:
        return
    held = readers(state)
    if any(reader > SLOT_0 for reader in held) or (SLOT_0 in held and state.n_backfill != state.mx_frame):
        return
    copied = content(state.wal[state.n_backfill : state.mx_frame])
    yield (
        "checkpoint TRUNCATE",
        _new_generation(state)._replace(
            database=state.database | copied,
            file_is_position=state.file_is_position and not copied,
            wal=(),
            header=0,
        ),
    )
