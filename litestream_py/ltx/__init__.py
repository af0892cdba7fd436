r"""LTX, version 3: one file of changed pages. This page is the specification that the package implements.

All integers are big-endian. A file is::

    header (100) | page frame ... | end marker (6 zero bytes) | page index | index size (8) | trailer (16)

Header
======

=======  =====  ====================================================================================================
offset   size   field
=======  =====  ====================================================================================================
0        4      magic, ``LTX1``
4        4      flags: 0x2 "no checksum" (pre- and post-apply checksum are not kept and are zero); no other is known
8        4      page size in bytes: a power of two, 512 to 65536 (65536 is stored as such)
12       4      commit: size of the database after this file, in pages
16       8      smallest TXID in the file, at least 1
24       8      largest TXID in the file
32       8      timestamp, Unix milliseconds, signed
40       8      pre-apply checksum: database checksum before this file; 0 for a snapshot or with flag 0x2
48       8      offset in the WAL of the first frame copied, signed; 0: not from a WAL
56       8      bytes of WAL copied, signed
64       4      salt-1 of the WAL
68       4      salt-2 of the WAL
72       8      node ID
80       20     reserved: ignored by every reader, but hashed. lsync keeps its database checksums here:
                80 u64 before (0: snapshot), 88 u64 after, 96 ``LSYN`` when the two are set, else all zero
=======  =====  ====================================================================================================

Page frame: pgno u32, flags u16, then by flags
    0x1: size u32 and an LZ4 block of that many bytes (what every writer makes since version 3);
    0x0: an LZ4 *frame* without a size (legacy; read only).
    Either holds exactly one page. The end marker is a frame head of zeros.

Page index: for every frame, ascending, three minimal unsigned LEB128 varints: page number, offset of the frame in the
    file, size of the frame (head included). One zero byte ends it. The index size counts that zero, not itself.

Trailer: post-apply checksum u64, file checksum u64.

Checksums
=========

All are CRC-64/ISO ("go_iso") with the top bit (``CHECKSUM_FLAG``) set, so that 0 means "absent".

- page: over the page number (u32) and the uncompressed page.
- database: XOR of the checksums of all its pages but the lock page; of an empty database the flag alone.
- file: over header, frame heads (with the size field), *uncompressed* pages, end marker, index, index size and
  post-apply checksum. It does **not** cover the compressed bytes: two files with the same checksum may differ, and a
  block is only as good as what it decodes to. Nor does it protect a single page read through the index.

Rules
=====

A *snapshot* is a file whose smallest TXID is 1. Each rule is refused under its own name (``LtxFormatError.reason``).

== ==================================== ==============================================================================
#  reason when broken                   rule
== ==================================== ==============================================================================
1  truncated                            header, frames, end marker, index, index size and trailer are there, whole
2  magic                                the file begins with ``LTX1``
3  header-flags-unknown                 only header flag 0x2 is known
4  page-size                            the page size is a power of two, 512 to 65536
5  min-txid-zero                        the smallest TXID is at least 1
6  max-txid-zero                        the largest TXID is at least 1
7  txids-reversed                       the smallest TXID is not above the largest
8  wal-offset-negative                  the WAL offset is not negative
9  wal-size-negative                    the WAL size is not negative
10 wal-salt-without-offset              a salt comes with a WAL offset
11 wal-size-without-offset              a WAL size comes with a WAL offset
12 pre-apply-in-snapshot                a snapshot has no pre-apply checksum
13 pre-apply-with-no-checksum-flag      with header flag 0x2 there is no pre-apply checksum
14 pre-apply-missing                    without it, a file that is no snapshot has one
15 pre-apply-without-flag-bit           it has its top bit set
16 lsyn-without-flag-bit                after ``LSYN``, "after" has its top bit set, "before" too unless it is 0
17 txid-not-of-its-name                 the header's TXIDs are those of the file's name
18 page-flags-unknown                   only page flag 0x1 is known
19 page-number-zero                     page numbers begin at 1
20 page-out-of-order                    page numbers ascend strictly
21 page-above-commit                    no page number is above commit
22 lock-page                            the lock page is in no file
23 snapshot-page-missing                a snapshot holds every page up to commit but the lock page
24 block-size-out-of-bounds             a size field is at least 1, at most LZ4's worst case for a page
25 block-damaged                        a block is whole, well formed, and decodes to no more than a page
26 block-short                          a block decodes to no less than a page
27 legacy-frame-too-long                a legacy frame is no longer than the worst case for a page
28 legacy-frame-damaged                 a legacy frame is well formed and uses no dictionary
29 legacy-frame-not-one-page            a legacy frame decodes to exactly one page
30 index-varint-too-long                a varint has at most ten bytes and 64 bits
31 index-varint-not-minimal             a varint has no superfluous byte
32 index-page-number-over-32-bit        page numbers of the index have 32 bits
33 index-out-of-order                   page numbers of the index ascend strictly
34 index-entry-missing                  every frame is in the index, in its place
35 index-entry-extra                    the index lists nothing but the frames
36 index-offset-wrong                   an entry has the offset of its frame; frames lie one behind the other
37 index-size-wrong                     an entry has the size of its frame
38 index-size-field-wrong               the index size is the size of the index
39 file-checksum-missing                the file checksum is not 0
40 file-checksum-without-flag-bit       it has its top bit set
41 file-checksum-wrong                  it is that of the content
42 post-apply-with-no-checksum-flag     with header flag 0x2 there is no post-apply checksum
43 post-apply-missing                   without it there is one
44 post-apply-without-flag-bit          it has its top bit set
45 trailing-data                        nothing follows the trailer
== ==================================== ==============================================================================

Rules 17 and 46 to 50 need more than the file: its name, the file before it, or the database (`checks`). One of them,
47, shows in a single file if that is a snapshot: its pages are the database.

== ==================================== ==============================================================================
46 pre-apply-wrong                      the pre-apply checksum is that of the database before
47 post-apply-wrong                     the post-apply checksum is that of the database after
48 lsyn-before-wrong                    the same of the pair in the reserved bytes
49 lsyn-after-wrong
50 growth-page-missing                  an increment holds every page that the database grew over
== ==================================== ==============================================================================

Reading one page through the index (`index.read_page`) can break two more, and a writer (`encoder.encode`) three.

== ==================================== ==============================================================================
51 end-marker-missing                   six zero bytes stand in front of the index
52 frame-not-as-indexed                 the frame that an entry points at is that page's, and of that size
53 header-field-out-of-range            every field fits its place (writer)
54 page-length                          every page has the length of a page (writer)
55 commit-zero                          a file with flag 0x2 has a commit of at least 1 (writer: Litestream's compaction
                                        cannot write such a file again, so no chain of ours may hold one)
== ==================================== ==============================================================================

Stricter than the peers' reader: rules 16, 17, 20 to 23, 26, 31 to 38, 42 to 44 (it accepts or ignores these). Rules
31, 33 and 34 refuse three harmless forms of the index (superfluous varint bytes, doubled entries, descending):
Litestream's and `ltx`'s writers sort the index and write minimal varints, so no real file has them, and one canonical
form lets the decoder compare the index instead of believing it.
"""

from __future__ import annotations
