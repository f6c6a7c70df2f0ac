-- Runs: what was asked for, how it went. At most one of a model is open.
CREATE TABLE run (
    tenant text NOT NULL,
    run_id text NOT NULL,
    model_id text NOT NULL,
    spec bytea NOT NULL,                      -- holdtrue.trainer.v1.RunSpec
    automatic boolean NOT NULL,
    state text NOT NULL CHECK (state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')),
    stage text NOT NULL,
    attempts integer NOT NULL,
    failure text,
    message text NOT NULL,
    log_digest text NOT NULL,
    result bytea,                             -- holdtrue.trainer.v1.RunSucceeded
    manifest_digest text,                     -- of the result
    requested_at timestamptz NOT NULL,
    ended_at timestamptz,
    PRIMARY KEY (tenant, run_id)
);
CREATE UNIQUE INDEX run_open ON run (tenant, model_id) WHERE state IN ('queued', 'running');
CREATE INDEX run_newest ON run (tenant, requested_at DESC, run_id DESC);
CREATE INDEX run_of_model ON run (tenant, model_id, requested_at DESC, run_id DESC);
CREATE INDEX run_manifest ON run (tenant, manifest_digest);

-- Retraining of a model: policy and what has happened, as the domain remembers it.
CREATE TABLE retraining (
    tenant text NOT NULL,
    model_id text NOT NULL,
    model_name text NOT NULL DEFAULT '',
    memory jsonb NOT NULL,
    last_decision text NOT NULL DEFAULT '',
    PRIMARY KEY (tenant, model_id)
);
CREATE INDEX retraining_dataset ON retraining (tenant, (memory -> 'policy' ->> 'dataset_id'));

-- Projection of datasets.v1.
CREATE TABLE dataset_version (
    tenant text NOT NULL,
    dataset_id text NOT NULL,
    version bigint NOT NULL,
    name text NOT NULL,
    published bytea NOT NULL,                 -- holdtrue.registry.v1.DatasetVersionPublished
    PRIMARY KEY (tenant, dataset_id, version)
);
CREATE INDEX dataset_version_name ON dataset_version (tenant, name, version DESC);

-- Projection of deployments.v1.
CREATE TABLE deployment (
    tenant text NOT NULL,
    deployment_id text NOT NULL,
    model_id text NOT NULL,
    name text NOT NULL,
    generation bigint NOT NULL,
    champion bytea,                           -- holdtrue.deployer.v1.Revision
    PRIMARY KEY (tenant, deployment_id)
);
CREATE INDEX deployment_model ON deployment (tenant, model_id);
