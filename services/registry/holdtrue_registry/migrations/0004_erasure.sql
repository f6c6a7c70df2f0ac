-- What erasures changed: their number by dataset, and of each commit the rows that went.

ALTER TABLE dataset ADD COLUMN erasure_epoch bigint NOT NULL DEFAULT 0;

ALTER TABLE dataset_version ADD COLUMN erasure_epoch bigint NOT NULL DEFAULT 0;  -- of the last that took rows out of it

ALTER TABLE dataset_commit ADD COLUMN erased bigint NOT NULL DEFAULT 0;          -- of the accepted rows
