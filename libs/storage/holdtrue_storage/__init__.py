"""PostgreSQL (pool, unit of work, migrations, leased jobs) and content-addressed blobs.

Import from the modules: `database`, `migrations`, `provision`, `jobs`, `blobs`.
"""
