-- Versions that people keep, versions that are forgotten, and commits whose rows go with them.

CREATE TABLE dataset_pin (
    tenant text NOT NULL,
    dataset_id text NOT NULL,
    version bigint NOT NULL,
    name text NOT NULL,
    reason text NOT NULL,
    actor text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, dataset_id, version, name)
);

ALTER TABLE dataset_version
    ADD COLUMN expired_at timestamptz,         -- null: it is there
    ADD COLUMN expired text NOT NULL DEFAULT '';  -- why

ALTER TABLE dataset_commit
    ADD COLUMN released_at timestamptz,        -- since when no version has its rows; null: some has, or will
    ADD COLUMN dropped_at timestamptz;         -- when they were deleted
CREATE INDEX dataset_commit_released ON dataset_commit (tenant, dataset_id, number)
    WHERE released_at IS NOT NULL AND dropped_at IS NULL;
