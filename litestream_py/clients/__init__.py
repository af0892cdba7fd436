"""Storage of replicas: a folder, S3, and a shipped in-memory fake."""
