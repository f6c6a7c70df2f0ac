-- What people do with versions. Nulls are of versions that are older than this: what they hold is in `published`.

ALTER TABLE dataset_version
    ADD COLUMN offered jsonb,                  -- commits before those in `retracted` are taken out: [[first, last], …]
    ADD COLUMN retracted jsonb,
    ADD COLUMN watermark bigint,               -- commits after it wait for the next version
    ADD COLUMN status text NOT NULL DEFAULT 'published' CHECK (status IN ('published', 'suspect', 'retracted'));

CREATE INDEX dataset_batch_commit ON dataset_batch (tenant, dataset_id, commit_number);
