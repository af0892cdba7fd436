"""This machine: the database through apsw, its files, our local state."""
