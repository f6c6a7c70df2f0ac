-- Projections: what serves, and what it is held against.
CREATE TABLE deployment (
    tenant text NOT NULL,
    deployment_id text NOT NULL,
    name text NOT NULL,
    model_id text NOT NULL,
    model_name text NOT NULL,
    id_key numeric(20) NOT NULL,              -- unsigned 64 bit: key of the check in prediction ids
    generation bigint NOT NULL,
    deleted boolean NOT NULL,
    PRIMARY KEY (tenant, deployment_id)
);

CREATE TABLE revision (
    tenant text NOT NULL,
    revision text NOT NULL,
    deployment_id text NOT NULL,
    model_version bigint NOT NULL,
    slot integer NOT NULL,
    live boolean NOT NULL,                    -- sees traffic: champion, challenger or shadow
    profile_digest text,                      -- what its counts are binned by, fixed by its first prediction; '': nothing
    drift_from_ns bigint NOT NULL DEFAULT 0,  -- windows that begin before this were judged for drift
    drift_rows bigint NOT NULL DEFAULT 0,     -- rows in closed windows since then
    drifted jsonb NOT NULL DEFAULT '{}',      -- adjusted PSI of the columns that drifted when last judged
    PRIMARY KEY (tenant, revision)
);
CREATE INDEX revision_slot ON revision (tenant, slot);
CREATE INDEX revision_deployment ON revision (tenant, deployment_id);

CREATE TABLE model_version (
    tenant text NOT NULL,
    model_id text NOT NULL,
    version bigint NOT NULL,
    profile_digest text NOT NULL,             -- empty: the version has no reference profile
    min_precision double precision NOT NULL,  -- 0: the model's policy demands none
    PRIMARY KEY (tenant, model_id, version)
);

CREATE TABLE profile (
    tenant text NOT NULL,
    digest text NOT NULL,
    data bytea NOT NULL,                      -- ReferenceProfile: a copy, because counts mean nothing without it
    PRIMARY KEY (tenant, digest)
);

-- State of the folds. A partition's rows are written only in the transaction that holds its row of fold_offset.
CREATE TABLE served_bucket (
    tenant text NOT NULL,
    revision text NOT NULL,
    start_ns bigint NOT NULL,
    segment smallint NOT NULL,
    partition integer NOT NULL,               -- of predictions.v1
    scores bytea NOT NULL,                    -- decisions by score, requests, latency
    features bytea NOT NULL,                  -- histograms of the columns: larger, read only to judge drift
    PRIMARY KEY (tenant, revision, start_ns, segment, partition)
);

CREATE TABLE labelled_bucket (
    tenant text NOT NULL,
    revision text NOT NULL,
    start_ns bigint NOT NULL,
    segment smallint NOT NULL,
    partition integer NOT NULL,               -- of labels.v1; -1 - p for labels that waited for predictions.v1's p
    data bytea NOT NULL,
    PRIMARY KEY (tenant, revision, start_ns, segment, partition)
);

CREATE TABLE spool (
    tenant text NOT NULL,
    partition integer NOT NULL,               -- of predictions.v1
    spool_id text NOT NULL,
    last numeric(20) NOT NULL,                -- sequence of the last record counted
    seen_at timestamptz NOT NULL,
    PRIMARY KEY (tenant, partition, spool_id)
);

CREATE TABLE watermark (
    tenant text NOT NULL,
    partition integer NOT NULL,               -- of predictions.v1
    latest_ns bigint NOT NULL,                -- time of the latest prediction counted
    PRIMARY KEY (tenant, partition)
);

CREATE TABLE label (
    tenant text NOT NULL,
    prediction_id text NOT NULL,
    revision text NOT NULL,                   -- of the model that predicted
    value double precision NOT NULL,          -- NaN: withdrawn
    label_revision bigint NOT NULL,
    observed_ns bigint NOT NULL,
    event_id text NOT NULL,
    PRIMARY KEY (tenant, prediction_id)
);

CREATE TABLE external_id (
    tenant text NOT NULL,
    external_id text NOT NULL,
    prediction_id text,                       -- of row 0 of the latest request with this id; null: none seen yet
    time_ns bigint NOT NULL DEFAULT 0,        -- of that request
    value double precision,                   -- the label that waits for a prediction; null: none waits
    label_revision bigint,
    observed_ns bigint,
    event_id text,
    PRIMARY KEY (tenant, external_id)
);

-- Windows and alerts.
CREATE TABLE evaluated_window (
    tenant text NOT NULL,
    revision text NOT NULL,
    start_ns bigint NOT NULL,
    end_ns bigint NOT NULL,
    touched bigint NOT NULL DEFAULT 1,        -- grows with every change of its counts
    evaluated bigint NOT NULL DEFAULT 0,      -- value of touched that the event shows
    restatement integer NOT NULL DEFAULT -1,  -- -1: still open
    evaluated_at timestamptz,
    rows bigint NOT NULL DEFAULT 0,
    labelled bigint NOT NULL DEFAULT 0,
    event bytea,                              -- WindowEvaluated
    PRIMARY KEY (tenant, revision, start_ns)
);
CREATE INDEX evaluated_window_stale ON evaluated_window (tenant, end_ns) WHERE touched > evaluated;
CREATE INDEX evaluated_window_time ON evaluated_window (tenant, end_ns) WHERE event IS NOT NULL;

CREATE TABLE signal (
    tenant text NOT NULL,
    alert_key text NOT NULL,
    memory jsonb NOT NULL,                    -- [[from, to, verdict], …]
    PRIMARY KEY (tenant, alert_key)
);

CREATE TABLE alert (
    tenant text NOT NULL,
    alert_id text NOT NULL,
    alert_key text NOT NULL,
    deployment_id text NOT NULL,
    deployment_name text NOT NULL,
    revision text NOT NULL,
    kind text NOT NULL,
    subject text NOT NULL,
    severity smallint NOT NULL,
    resolved_at timestamptz,
    changed_at timestamptz NOT NULL,
    version bigint NOT NULL,
    body bytea NOT NULL,                      -- Alert
    PRIMARY KEY (tenant, alert_id)
);
CREATE UNIQUE INDEX alert_open ON alert (tenant, alert_key) WHERE resolved_at IS NULL;
CREATE INDEX alert_key ON alert (tenant, alert_key, resolved_at);
CREATE INDEX alert_changed ON alert (tenant, changed_at);

-- Notifications are numbered by a locked counter: a serial commits out of order, and a reader would skip numbers.
CREATE TABLE notification_counter (
    tenant text PRIMARY KEY,
    last bigint NOT NULL
);

CREATE TABLE notification (
    tenant text NOT NULL,
    sequence bigint NOT NULL,
    alert_id text NOT NULL,
    change text NOT NULL,
    body bytea NOT NULL,                      -- Alert after the change
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, sequence)
);
