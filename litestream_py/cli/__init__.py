"""The `lsync` command; one module per subcommand."""
