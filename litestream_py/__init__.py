"""lsync: continuous replication of SQLite databases to a folder or S3.

A daemon tails a database's write-ahead log, turns each batch of commits into an immutable LTX file of changed pages
and uploads it; `lsync restore` rebuilds the database, byte for byte, at any retained transaction (TXID).
"""

__version__ = "0.1.0"
