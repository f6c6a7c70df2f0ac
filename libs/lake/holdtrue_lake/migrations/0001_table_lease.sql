-- Who reads a dataset's files, and who may remove some: one writer, any number of readers.
CREATE TABLE table_lease (
    tenant text NOT NULL,
    dataset_id text NOT NULL,
    id text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('reader', 'writer')),
    holder text NOT NULL,                        -- for people: which process
    alone boolean NOT NULL DEFAULT false,        -- a writer that lets no new reader in
    leased_until timestamptz NOT NULL,
    PRIMARY KEY (tenant, dataset_id, id)
);
CREATE UNIQUE INDEX table_lease_writer ON table_lease (tenant, dataset_id) WHERE kind = 'writer';
