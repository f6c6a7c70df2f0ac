-- Rules of datasets, and the bounds of each commit (null: of commits that are older than this).

ALTER TABLE dataset ADD COLUMN rules_digest text NOT NULL DEFAULT '';  -- of the rules in force; empty: none

-- Every rules file that was ever in force. The blob of its digest has the canonical form.
CREATE TABLE dataset_rules (
    tenant text NOT NULL,
    dataset_id text NOT NULL,
    number bigint NOT NULL,                    -- from 1
    digest text NOT NULL,
    rules text NOT NULL,                       -- the file as it came
    reason text NOT NULL,
    actor text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, dataset_id, number)
);

ALTER TABLE dataset_commit
    ADD COLUMN from_us bigint,                 -- bounds of the accepted rows' event times, microseconds
    ADD COLUMN to_us bigint,
    ADD COLUMN rules_digest text NOT NULL DEFAULT '';
