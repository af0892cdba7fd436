"""Carrying out a retention plan: in its order, checked, and honest about what remains."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from litestream_py.clients.factory import open_client
from litestream_py.clients.memory import MemoryClient
from litestream_py.core.listing import is_base
from litestream_py.core.ports import FileInfo
from litestream_py.core.restore import restorable_txids
from litestream_py.core.retention import RetentionPlan, RetentionPolicy, plan_retention
from litestream_py.engine.fetch import list_replica
from litestream_py.engine.retention import StoreKeepsError, execute_retention
from litestream_py.errors import AccessDeniedError, ExitCode, LsyncError, ReplicaError, TransientNetworkError
from tests.support.chains import sample
from tests.support.listings import name, shorts

DAY_MS = 86_400_000


def replica(script: str = "") -> MemoryClient:
    """Return a replica of seven TXIDs, all of 1970, whose second snapshot begins the window."""
    history = sample()
    client = history.replica()
    for level, low, high in ((1, 2, 3), (1, 4, 5), (1, 6, 7), (9, 1, 2), (9, 1, 5)):
        history.put(client, level, low, high)
    client.rewrite(script)
    return client


def plan_for(client: MemoryClient) -> RetentionPlan:
    return plan_retention(list_replica(client), RetentionPolicy(), 10 * DAY_MS)


def test_what_the_plan_names_goes_in_its_order_and_nothing_else() -> None:
    """Bases go first and alone, then the rest; what stays restores as before, byte by byte of the listing."""
    client = replica()
    plan = plan_for(client)
    told: list[FileInfo] = []
    before = set(client.files)
    result = execute_retention(client, plan, batch_files=3, done=told.extend)
    assert result.files == plan.deletes == tuple(told)
    assert result.bytes == plan.bytes > 0
    assert before - set(client.files) == {info.name for info in plan.deletes}
    assert {int(txid) for txid in restorable_txids(list_replica(client))} == {5, 7}
    batches = [call.subject.split() for call in client.calls if call.operation == "delete"]
    assert [len(batch) for batch in batches] == [2, 3, 3, 1]
    assert {is_base(info) for info in plan.deletes[:2]} == {True}
    assert client.counts["read"] == len(batches), "one byte of the last file of each batch"


def test_nothing_to_delete_asks_nothing() -> None:
    """An empty plan makes no request."""
    client = MemoryClient()
    assert execute_retention(client, RetentionPlan((), ()), relist=True).files == ()
    assert client.calls == []


def test_each_step_on_the_way_keeps_what_the_end_keeps() -> None:
    """Wherever it is cut short, the promised states can be restored, and the next plan names exactly the rest."""
    whole = plan_for(replica())
    for cut in range(len(whole.deletes)):
        client = replica()
        for info in whole.deletes[:cut]:
            del client.files[info.name]
        assert {5, 7} <= {int(txid) for txid in restorable_txids(list_replica(client))}
        assert plan_for(client).deletes == whole.deletes[cut:]


@pytest.mark.parametrize(("denied", "batch_files"), [(0, 1000), (1, 1000), (2, 3), (0, 1)])
def test_a_denied_delete_names_what_remains(denied: int, batch_files: int) -> None:
    """Exit code 5; what was deleted is gone and told, everything else is named in the error."""
    client = replica()
    plan = plan_for(client)
    client.rewrite(f"delete:ok delete:denied@{denied}*")
    told: list[FileInfo] = []
    with pytest.raises(AccessDeniedError) as caught:
        execute_retention(client, plan, batch_files=batch_files, done=told.extend)
    error = caught.value
    assert error.exit_code == ExitCode.ACCESS_DENIED
    left = [info for info in plan.deletes if info.name in client.files]
    assert error.remaining == tuple(info.name for info in left)
    assert told == [info for info in plan.deletes if info not in left]
    assert error.hint is not None
    assert f"not deleted: {left[0].name}, " in error.hint
    assert f"and {len(left) - 3} more" in error.hint
    assert error.__cause__ is None


@pytest.mark.parametrize("relist", [False, True])
def test_a_store_that_keeps_what_it_deleted_is_noticed(relist: bool) -> None:
    """A confirmed delete whose file is still there is an error, by the byte that can still be read of it."""
    client = replica("delete:kept*")
    plan = plan_for(client)
    with pytest.raises(StoreKeepsError, match="the store confirmed it and keeps the file") as caught:
        execute_retention(client, plan, relist=relist)
    assert isinstance(caught.value, ReplicaError)
    assert caught.value.remaining == tuple(info.name for info in plan.deletes)


def test_a_listing_at_the_end_finds_any_file_that_was_kept() -> None:
    """Where the last of a batch is gone and another is not, only the listing shows it."""
    client = replica()
    plan = plan_for(client)
    victim = plan.deletes[3]
    body = client.files[victim.name]

    def put_back(batch: object) -> None:
        client.files[victim.name] = body

    assert execute_retention(client, plan, done=put_back).files == plan.deletes
    client = replica()
    with pytest.raises(StoreKeepsError) as caught:
        execute_retention(client, plan, relist=True, done=put_back)
    assert caught.value.remaining == (victim.name,)


def test_transient_faults_are_tried_again() -> None:
    """A lost answer and a busy store change nothing; a store that stays away ends it, with the rest named."""
    client = replica()
    plan = plan_for(client)
    client.rewrite("delete:503 delete:timeout-after read:500")
    assert execute_retention(client, plan).files == plan.deletes
    client = replica()
    client.rewrite("delete:ok delete:timeout*")
    with pytest.raises(TransientNetworkError) as caught:
        execute_retention(client, plan)
    assert len(caught.value.remaining or ()) == len(plan.deletes) - 2


def test_a_folder_that_is_read_only_is_a_denied_delete(tmp_path: Path) -> None:
    """Files of a folder go for good; without the right to, the error is the same as on S3."""
    url = sample().folder(tmp_path / "replica")
    client = open_client(url)
    listing = list_replica(client)
    plan = RetentionPlan((), tuple(listing[:2]))
    assert execute_retention(client, plan, relist=True).files == tuple(listing[:2])
    assert shorts(list_replica(client)) == "0:3 0:4 0:5 0:6 0:7"
    if os.getuid() == 0:
        return  # root may do anything
    (tmp_path / "replica/ltx/0").chmod(0o500)
    try:
        with pytest.raises(LsyncError) as caught:
            execute_retention(client, RetentionPlan((), tuple(listing[2:4])))
        assert caught.value.exit_code == ExitCode.ACCESS_DENIED
        assert caught.value.remaining == (name("0:3"), name("0:4"))
    finally:
        (tmp_path / "replica/ltx/0").chmod(0o700)
