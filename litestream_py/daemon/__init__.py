"""Many databases: scheduling, metrics, signals."""
