"""Bytes of SQLite's write-ahead log, wal-index and database header, turned into values. No I/O.

A WAL file is a 32-byte header (`records`) and frames of 24 + page size bytes (`scan`), chained by a checksum
(`checksum`). The wal-index, the ``-shm`` file, tells how many of those frames are committed (`walindex`). The first 100
bytes of the database file tell whether it is a database at all (`dbheader`).

Source: https://sqlite.org/fileformat2.html sections 1.3 and 4, https://sqlite.org/walformat.html section 2.
"""
