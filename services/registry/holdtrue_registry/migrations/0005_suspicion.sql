-- Commits whose rows were not as expected when they came: versions that hold some are suspect until they are cleared.

CREATE TABLE dataset_suspicion (
    tenant text NOT NULL,
    dataset_id text NOT NULL,
    version bigint NOT NULL,                   -- the first that held them
    commits jsonb NOT NULL,                    -- [[first, last], …]
    broken bytea[] NOT NULL,                   -- holdtrue.registry.v1.BrokenExpectation
    created_at timestamptz NOT NULL DEFAULT now(),
    cleared_at timestamptz,                    -- null: open
    cleared_by text,
    reason text,
    PRIMARY KEY (tenant, dataset_id, version)
);

ALTER TABLE dataset_version ADD COLUMN cleared text NOT NULL DEFAULT '';  -- why a person has cleared it
