-- How far an erasure is, so that another run goes on where the last one ended, and what datasets held about the person.
ALTER TABLE erasure
    ADD COLUMN urgent boolean NOT NULL DEFAULT false,      -- asked to begin at once
    ADD COLUMN began_at timestamptz,
    ADD COLUMN total bigint NOT NULL DEFAULT 0,            -- datasets of the last run
    ADD COLUMN held jsonb NOT NULL DEFAULT '{}',           -- by dataset, written before anything goes
    ADD COLUMN checked jsonb NOT NULL DEFAULT '{}',        -- by dataset: what was looked through, what was found
    ADD COLUMN echo text[] NOT NULL DEFAULT '{}';          -- datasets in which late rows are being erased
