-- Leased jobs: what a worker has to do, in the name of whom, and who does it at the moment.
CREATE TABLE job (
    tenant text NOT NULL,
    id text NOT NULL,
    kind text NOT NULL,
    key text,                                 -- at most one open job of a kind and key
    payload jsonb NOT NULL,
    actor text NOT NULL,
    state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'done', 'dead')),
    run_at timestamptz NOT NULL,
    attempts integer NOT NULL DEFAULT 0,      -- times that a worker took it
    token bigint NOT NULL DEFAULT 0,          -- grows with each lease: the fencing token
    leased_until timestamptz,
    error text,                               -- of the last attempt that failed
    created_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    PRIMARY KEY (tenant, id)
);
CREATE UNIQUE INDEX job_open_key ON job (tenant, kind, key) WHERE state = 'open';
CREATE INDEX job_due ON job (kind, run_at) WHERE state = 'open';
CREATE INDEX job_finished ON job (kind, finished_at) WHERE state <> 'open';
