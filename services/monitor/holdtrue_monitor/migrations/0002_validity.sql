-- All labels of a revision, each partition's part for itself, as in labelled_bucket.
CREATE TABLE revision_labels (
    tenant text NOT NULL,
    revision text NOT NULL,
    partition integer NOT NULL,
    data bytea NOT NULL,
    PRIMARY KEY (tenant, revision, partition)
);

-- What they said, when last tested, about the calibration that its estimates rest on.
ALTER TABLE revision
    ADD COLUMN contradicted boolean NOT NULL DEFAULT false,
    ADD COLUMN residual bytea,                         -- Measure: how far positives were above the promised; null: untested
    ADD COLUMN residual_due bigint NOT NULL DEFAULT 50, -- labels beyond residual_before at which the next test is due
    ADD COLUMN residual_before bytea;                  -- labels that had come when it was found contradicted
