"""Take a replica's chain for our own: rebuild the page checksums by streaming its restore plan, without keeping any
page.

For a lost local state, a replica that Litestream wrote, and one that is ahead of us: what follows is a comparison with
the database, which ships the pages that differ as the next TXID.
"""

from __future__ import annotations

from collections.abc import Sequence

from litestream_py.core.continuity import LocalChain
from litestream_py.core.oserrors import os_errors
from litestream_py.core.ports import FileInfo, ReplicaClient
from litestream_py.core.restore import plan_restore
from litestream_py.engine.chain import apply_file
from litestream_py.engine.fetch import Fetcher
from litestream_py.errors import ChainGapError, CorruptError, LtxFormatError
from litestream_py.failpoints import declare, hit
from litestream_py.local.meta import MetaDir
from litestream_py.local.pagesums import PageSums
from litestream_py.ltx.records import Header

AFTER_SUMS = declare("adopt.after_page_sums")
NO_CHAIN = "this chain cannot be continued: replicate to a new URL, and keep the old one for restores"


def adopt(
    client: ReplicaClient, listing: Sequence[FileInfo], meta: MetaDir
) -> tuple[LocalChain, PageSums] | None:
    """Return the replica's newest state as a local chain, or None if the replica (its `listing`) holds nothing.

    The local state is reset once the new one is complete. Raises LsyncError: unreachable, access denied, CorruptError
    for a chain that cannot be restored (then nothing is ever written to it: replicate to a new URL).
    """
    if not listing:
        meta.reset()
        return None
    try:
        plan = plan_restore(listing, None)
    except ChainGapError as error:
        error.hint = NO_CHAIN
        raise
    partial = meta.pages_crc.with_name("pages.crc.tmp")
    sums: PageSums | None = None
    header: Header | None = None
    try:
        with Fetcher(client, plan.files) as fetcher:
            for info, chunks in fetcher:
                if sums is None:
                    sums = PageSums.create(partial, 0)
                try:
                    header = apply_file(sums, info.name, chunks)
                except LtxFormatError as error:
                    where = f"{client.url}: {info.name}"
                    raise CorruptError("adopt", where, f"{error.detail} [{error.reason}]", hint=NO_CHAIN) from error
                if sums.page_size not in {0, header.page_size}:
                    raise CorruptError("adopt", client.url, f"page size changes at {info.name}")
                sums.page_size = header.page_size
        if sums is None or header is None:
            raise CorruptError("adopt", client.url, "the restore plan is empty")
        checksum = sums.checksum()
        if header.lsyn is not None and header.lsyn.after != checksum:
            cause = f"the chain up to {plan.max_txid} does not prove its checksum"
            raise CorruptError("adopt", client.url, cause, hint=NO_CHAIN)
        sums.stamp(plan.max_txid, header.commit)
        meta.reset()
        with os_errors("sync", partial):
            sums.replace_into(meta.pages_crc)
            hit(AFTER_SUMS)
    except BaseException:
        if sums is not None:
            sums.discard()
        raise
    chain = LocalChain(
        txid=plan.max_txid,
        database_checksum=checksum,
        page_size=header.page_size,
        commit=header.commit,
        wal=None,
        file=None,
        file_complete=False,
        timestamp_ms=header.timestamp_ms,
    )
    return chain, sums
