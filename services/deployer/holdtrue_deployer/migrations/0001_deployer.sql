-- Deployments, their rollouts, and what the deployer has heard of the others.
CREATE TABLE deployment (
    tenant text NOT NULL,
    deployment_id text NOT NULL,
    name text NOT NULL,
    model_id text NOT NULL,
    version bigint NOT NULL,      -- of the row; guards every update
    data jsonb NOT NULL,          -- the aggregate
    PRIMARY KEY (tenant, deployment_id),
    UNIQUE (tenant, name)
);
CREATE INDEX deployment_model ON deployment (tenant, model_id);

CREATE TABLE rollout (
    tenant text NOT NULL,
    rollout_id text NOT NULL,
    deployment_id text NOT NULL,
    open boolean NOT NULL,
    due_at timestamptz NOT NULL,
    version bigint NOT NULL,      -- of the row; guards every update
    data jsonb NOT NULL,          -- the aggregate
    PRIMARY KEY (tenant, rollout_id),
    FOREIGN KEY (tenant, deployment_id) REFERENCES deployment
);
-- At most one open rollout of a deployment.
CREATE UNIQUE INDEX rollout_open ON rollout (tenant, deployment_id) WHERE open;
-- Ids are UUIDv7: the order of time.
CREATE INDEX rollout_history ON rollout (tenant, deployment_id, rollout_id);

CREATE TABLE rollout_change (
    tenant text NOT NULL,
    rollout_id text NOT NULL,
    version bigint NOT NULL,      -- of the rollout after the change
    kind text NOT NULL,           -- started, advanced, held, resumed, completed, rolled_back
    at timestamptz NOT NULL,
    actor text NOT NULL,
    data bytea NOT NULL,          -- the Rollout message as it was published
    PRIMARY KEY (tenant, rollout_id, version),
    FOREIGN KEY (tenant, rollout_id) REFERENCES rollout
);

-- Next free slot of prediction ids: 14 bit, never used again.
CREATE TABLE slot (
    tenant text PRIMARY KEY,
    next integer NOT NULL
);

-- Projection of model-versions.v1.
CREATE TABLE model_version (
    tenant text NOT NULL,
    model_id text NOT NULL,
    version bigint NOT NULL,
    state text NOT NULL CHECK (state IN ('registered', 'validated', 'approved', 'rejected')),
    data bytea NOT NULL,          -- the ModelVersion message
    PRIMARY KEY (tenant, model_id, version)
);

-- Projection of alerts.v1: open critical alerts of performance and serving.
CREATE TABLE alert (
    tenant text NOT NULL,
    alert_key text NOT NULL,
    deployment_id text NOT NULL,
    revision text NOT NULL,
    PRIMARY KEY (tenant, alert_key)
);
CREATE INDEX alert_deployment ON alert (tenant, deployment_id);
