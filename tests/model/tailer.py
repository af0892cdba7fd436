"""What the tailer does: attach, sync, hand the read mark over, seal, resync, fail, crash.

Bulk checkpoints are the hand-over and anybody's PASSIVE; truncation after a seal is anybody's TRUNCATE.
"""

from __future__ import annotations

from enum import Enum

from tests.model.model import (
    NO_READER,
    At,
    Bounds,
    Handover,
    Rules,
    State,
    Step,
    Steps,
    Writer,
    committed,
    content,
    idents,
    slot_for_new_reader,
    write_lock_free,
)


def steps(state: State, rules: Rules, bounds: Bounds) -> Steps:
    """Yield everything that the tailer can do next."""
    if state.at is not At.DOWN and state.tailer_crashes < bounds.tailer_crashes:
        yield _crash(state)
    match state.at:
        case At.DOWN:
            yield from _attach(state)
        case At.IDLE:
            yield from _plan_sync(state, rules)
            yield from _begin_handover(state, rules)
            yield from _begin_seal(state, rules)
            yield from _begin_reader(state)
        case At.SCAN:
            yield _scan(state)
        case At.READ_PAGES:
            yield _read_pages(state)
        case At.PUBLISH:
            yield _publish(state, rules)
        case At.HANDOVER_BEGIN:
            yield (
                "hand-over: the new reader begins",
                state._replace(at=At.HANDOVER_END, new_reader=slot_for_new_reader(state)),
            )
        case At.HANDOVER_END:
            yield (
                "hand-over: the old reader ends",
                state._replace(at=At.IDLE, reader=state.new_reader, new_reader=NO_READER),
            )
        case At.SEAL_SYNC:
            yield from _plan_sync(state, rules)
        case At.SEAL_END_READER:
            yield "seal: the reader ends", state._replace(at=At.SEAL_START_READER, reader=NO_READER, sealed=False)
        case At.SEAL_START_READER:
            yield from _finish_seal(state, bounds)
        case _:
            yield from _resync(state)


# --- attach, crash, error ---


def _crash(state: State) -> Step:
    """Memory and locks go; what is on disk stays."""
    return "tailer crashes", _forget(state)._replace(
        at=At.DOWN, reader=NO_READER, sealed=False, tailer_crashes=state.tailer_crashes + 1
    )


def _forget(state: State) -> State:
    return state._replace(at=At.IDLE, new_reader=NO_READER, barrier=False, sealing=False, noted=(0, 0, 0), pages=0)


def _attach(state: State) -> Steps:
    """Under the write lock: begin the reader, decide continuity. With nothing left to copy that is a seal."""
    if state.writer is not Writer.IDLE:
        return
    attached = state._replace(at=At.IDLE, reader=slot_for_new_reader(state))
    generation, frames = state.position
    if state.mx_frame and generation == state.generation and frames <= state.mx_frame:
        yield "tailer attaches: same generation, continue", attached._replace(sealed=frames == state.mx_frame)
    elif state.mx_frame == 0 and state.file_is_position:
        yield (
            "tailer attaches: no WAL, same database file, continue",
            attached._replace(position=(state.generation, 0), sealed=True),
        )
    else:
        yield (
            "tailer attaches: no proof, resync",
            attached._replace(at=At.RESYNC_FILE, noted=(state.generation, 0, state.mx_frame)),
        )


def _begin_reader(state: State) -> Steps:
    """After an error under the seal: a reader again, but not under the write lock, so the position stays unsealed."""
    if state.reader == NO_READER:
        yield "reader begins again, unsealed", state._replace(reader=slot_for_new_reader(state))


# --- sync ---


class Plan(Enum):
    """What sync makes of the wal-index and its position."""

    NOTHING = 0
    READ = 1
    LOST = 2


def plan(state: State, rules: Rules) -> Plan:
    """Decide from one look at the wal-index."""
    generation, frames = state.position
    mx_frame = _visible_frames(state, rules)
    if generation == state.generation:
        if mx_frame < frames:
            return Plan.LOST
        return Plan.READ if mx_frame > frames else Plan.NOTHING
    if mx_frame == 0 and not rules.empty_generation_judged:
        return Plan.NOTHING
    if not state.sealed:
        return Plan.LOST
    return Plan.READ if mx_frame else Plan.NOTHING


def false_comfort(state: State, rules: Rules) -> str | None:
    """Return what is missing from a replica whose tailer, asked to sync, would say that there is nothing to copy."""
    if state.at is not At.IDLE or plan(state, rules) is not Plan.NOTHING:
        return None
    missing = committed(state) & ~state.replica
    return f"nothing to copy, says sync, but the replica lacks {idents(missing)}" if missing else None


def _plan_sync(state: State, rules: Rules) -> Steps:
    """Act on the plan; outside a seal, a sync may be cut at any commit."""
    decision = plan(state, rules)
    if decision is Plan.LOST:
        yield "sync finds continuity lost", _forget(state)._replace(at=At.LOST)
    elif decision is Plan.NOTHING:
        if state.sealing:
            yield "seal: nothing left to copy", state._replace(at=At.SEAL_END_READER)
    else:
        generation, frames = state.position
        start = frames if generation == state.generation else 0
        last = _visible_frames(state, rules)
        for end in range(start + 1, last + 1):
            if end == last or (state.wal[end - 1].ends and not state.sealing):
                yield (
                    f"sync plans frames {start + 1} to {end} of generation {state.generation}",
                    state._replace(at=At.SCAN, noted=(state.generation, start, end)),
                )


def _visible_frames(state: State, rules: Rules) -> int:
    return state.mx_frame if rules.published_frames_only else _last_commit_in_file(state)


def _last_commit_in_file(state: State) -> int:
    """What a tailer that trusts the file alone takes for mxFrame: the last commit of the valid chain."""
    last = 0
    for number, frame in enumerate(state.wal, 1):
        if frame.generation != state.generation:
            break
        if frame.ends:
            last = number
    return last


def _scan(state: State) -> Step:
    """First pass: salts and checksums of the frames."""
    generation, start, end = state.noted
    frames = state.wal[start:end]
    if len(frames) == end - start and all(frame.generation == generation for frame in frames):
        return "sync scans them: valid", state._replace(at=At.READ_PAGES)
    return "sync scans them: not valid, plan again", _again(state)


def _read_pages(state: State) -> Step:
    """Second pass: the pages, by their offsets."""
    _, start, end = state.noted
    if len(state.wal) < end:
        return "sync reads the pages: the file is shorter, plan again", _again(state)
    return "sync reads the pages", state._replace(at=At.PUBLISH, pages=content(state.wal[start:end]))


def _publish(state: State, rules: Rules) -> Step:
    generation, _, end = state.noted
    if rules.salts_rechecked and state.generation != generation:
        return "sync finds other salts, plan again", _again(state)
    return "sync publishes", state._replace(
        at=At.SEAL_SYNC if state.sealing else At.IDLE,
        replica=state.replica | state.pages,
        position=(generation, end),
        sealed=False,
        file_is_position=False,
        noted=(0, 0, 0),
        pages=0,
    )


def _again(state: State) -> State:
    return state._replace(at=At.SEAL_SYNC if state.sealing else At.IDLE, noted=(0, 0, 0), pages=0)


# --- hand-over and seal ---


def _begin_handover(state: State, rules: Rules) -> Steps:
    if state.reader == NO_READER:
        return
    if rules.handover is not Handover.ANY and state.n_backfill == state.mx_frame:
        return
    if rules.handover is Handover.FORWARD and state.mx_frame <= state.reader:
        return
    yield "hand-over is allowed", state._replace(at=At.HANDOVER_BEGIN)


def _begin_seal(state: State, rules: Rules) -> Steps:
    if not rules.barrier_at_seal:
        yield "seal begins, without the write lock", state._replace(at=At.SEAL_SYNC, sealing=True)
    elif write_lock_free(state):
        yield "seal: the barrier takes the write lock", state._replace(at=At.SEAL_SYNC, sealing=True, barrier=True)


def _finish_seal(state: State, bounds: Bounds) -> Steps:
    """Start the reader and release; or fail, release, and be without a reader."""
    yield (
        "seal: the reader starts, the write lock is released",
        _forget(state)._replace(
            reader=slot_for_new_reader(state), sealed=True, file_is_position=state.n_backfill == state.mx_frame
        ),
    )
    if state.tailer_errors < bounds.tailer_errors:
        yield (
            "seal fails: the write lock is released, there is no reader",
            _forget(state)._replace(tailer_errors=state.tailer_errors + 1),
        )


# --- resync ---


def _resync(state: State) -> Steps:
    """Under the write lock: begin the reader, note mxFrame. Then compare the database under that reader."""
    generation, _, mark = state.noted
    if state.at is At.LOST:
        if write_lock_free(state):
            yield (
                "resync: the reader restarts under the write lock",
                state._replace(
                    at=At.RESYNC_FILE,
                    reader=slot_for_new_reader(state),
                    noted=(state.generation, 0, state.mx_frame),
                ),
            )
    elif state.at is At.RESYNC_FILE:
        yield "resync reads the database file", state._replace(at=At.RESYNC_WAL, pages=state.database)
    else:
        overlay = content(state.wal[: state.reader]) if state.reader > 0 else 0
        yield (
            "resync reads the WAL up to its mark and publishes",
            _forget(state)._replace(
                replica=state.pages | overlay, position=(generation, mark), sealed=True, file_is_position=False
            ),
        )
