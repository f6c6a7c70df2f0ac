-- Datasets, models, their versions, and what came of what. Times are of the database; `actor` is the canonical text form.

CREATE TABLE dataset (
    tenant text NOT NULL,
    id text NOT NULL,
    name text NOT NULL,
    schema_id text NOT NULL,
    schema bytea NOT NULL,                     -- holdtrue.registry.v1.DatasetSchema
    version_rows bigint NOT NULL,              -- accepted rows after which a version closes by itself
    last_commit bigint NOT NULL DEFAULT -1,    -- newest commit of the table that is recorded here
    accepted bigint NOT NULL DEFAULT 0,
    quarantined bigint NOT NULL DEFAULT 0,
    from_us bigint NOT NULL DEFAULT 0,         -- bounds of the accepted rows' event times, microseconds
    to_us bigint NOT NULL DEFAULT 0,
    latest_version bigint NOT NULL DEFAULT 0,
    published_rows bigint NOT NULL DEFAULT 0,  -- rows of the latest version
    open_since timestamptz,                    -- when the first accepted row after the latest version came; null: none
    actor text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, id),
    UNIQUE (tenant, name)
);

-- What the table's own log says about each commit; restored from there when a crash came in between.
CREATE TABLE dataset_commit (
    tenant text NOT NULL,
    dataset_id text NOT NULL,
    number bigint NOT NULL,
    app_id text NOT NULL,
    first_offset bigint NOT NULL,
    last_offset bigint NOT NULL,
    accepted bigint NOT NULL,
    quarantined bigint NOT NULL,
    repeated bigint NOT NULL,
    digest text NOT NULL,
    ingested_at timestamptz NOT NULL,
    PRIMARY KEY (tenant, dataset_id, number)
);

CREATE TABLE dataset_batch (
    tenant text NOT NULL,
    dataset_id text NOT NULL,
    batch_id text NOT NULL,
    commit_number bigint NOT NULL,
    rows bigint NOT NULL,
    accepted bigint NOT NULL,
    quarantined bigint NOT NULL,
    codes jsonb NOT NULL,                      -- refused records by code
    examples jsonb NOT NULL,                   -- first refused records, in words
    PRIMARY KEY (tenant, dataset_id, batch_id)
);

CREATE TABLE dataset_version (
    tenant text NOT NULL,
    dataset_id text NOT NULL,
    version bigint NOT NULL,
    published bytea NOT NULL,                  -- holdtrue.registry.v1.DatasetVersionPublished
    actor text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, dataset_id, version)
);

-- Where reading a partition resumes. Only a hint: the tables know which offsets they have.
CREATE TABLE ingest_position (
    tenant text NOT NULL,
    topic_id text NOT NULL,
    partition integer NOT NULL,
    next_offset bigint NOT NULL,
    PRIMARY KEY (tenant, topic_id, partition)
);

CREATE TABLE model (
    tenant text NOT NULL,
    id text NOT NULL,
    name text NOT NULL,
    min_precision double precision NOT NULL,
    precision_margin double precision NOT NULL,
    approvals integer NOT NULL,
    latest_version bigint NOT NULL DEFAULT 0,  -- numbers are never used again
    actor text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, id),
    UNIQUE (tenant, name)
);

CREATE TABLE model_version (
    tenant text NOT NULL,
    model_id text NOT NULL,
    version bigint NOT NULL,
    run_id text NOT NULL,                      -- natural key: a run makes one version
    state text NOT NULL CHECK (state IN ('registered', 'validated', 'approved', 'rejected', 'retired')),
    reason text NOT NULL,
    model_version bytea NOT NULL,              -- holdtrue.registry.v1.ModelVersion
    checks bytea[] NOT NULL,                   -- holdtrue.common.v1.CheckResult
    evidence_digest text NOT NULL,
    actor text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, model_id, version),
    UNIQUE (tenant, run_id)
);

CREATE TABLE lineage_edge (
    tenant text NOT NULL,
    source_kind text NOT NULL,
    source_id text NOT NULL,
    target_kind text NOT NULL,
    target_id text NOT NULL,
    relation text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, source_kind, source_id, target_kind, target_id, relation)
);
CREATE INDEX lineage_edge_target ON lineage_edge (tenant, target_kind, target_id);

-- Projection of deployments.v1: the newest state of each deployment.
CREATE TABLE deployment (
    tenant text NOT NULL,
    id text NOT NULL,
    name text NOT NULL,
    model_id text NOT NULL,
    generation bigint NOT NULL,
    PRIMARY KEY (tenant, id)
);

CREATE TABLE deployment_role (
    tenant text NOT NULL,
    deployment_id text NOT NULL,
    model_id text NOT NULL,
    model_version bigint NOT NULL,
    role text NOT NULL,
    PRIMARY KEY (tenant, deployment_id, model_version)
);
CREATE INDEX deployment_role_model ON deployment_role (tenant, model_id, model_version);
