"""`python -m litestream_py` is `lsync`."""

from __future__ import annotations

from litestream_py.cli.main import main

if __name__ == "__main__":
    main()
