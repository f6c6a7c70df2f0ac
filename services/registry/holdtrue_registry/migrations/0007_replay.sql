-- Refused records that were offered again: what came of each is under its new batch, and the old entry is not shown.

CREATE TABLE dataset_replay (
    tenant text NOT NULL,
    dataset_id text NOT NULL,
    refused_us bigint NOT NULL,                -- when it was refused, microseconds since the epoch
    part integer NOT NULL,
    off bigint NOT NULL,
    row integer NOT NULL,
    batch_id text NOT NULL,                    -- that it was offered in again
    reason text NOT NULL,
    actor text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, dataset_id, refused_us, part, off, row)
);
