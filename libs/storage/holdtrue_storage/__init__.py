"""PostgreSQL, leased jobs and content-addressed blobs."""
