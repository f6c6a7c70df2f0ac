-- Events on their way out: written with the change that they tell of, deleted once Kafka has them.
CREATE TABLE outbox (
    tenant text NOT NULL,
    id bigint GENERATED ALWAYS AS IDENTITY,
    topic text NOT NULL,                      -- without prefix
    key bytea,
    value bytea,
    headers bytea NOT NULL,                   -- packed by holdtrue_events.outbox
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (id, tenant)
) WITH (
    -- A queue: all rows are new or dead, so that the statistics are never right. Vacuum it by the count of dead rows.
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_insert_threshold = -1, autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 10000
);
ALTER TABLE outbox ALTER COLUMN value SET STORAGE EXTERNAL; -- packed numbers do not compress; do not try

-- Events whose effect is in this schema.
CREATE TABLE inbox (
    tenant text NOT NULL,
    consumer text NOT NULL,
    event_id text NOT NULL,
    seen_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (consumer, event_id, tenant)
);
CREATE INDEX inbox_seen ON inbox USING brin (seen_at);

-- Events that could not be handled, as they came.
CREATE TABLE dead_letter (
    tenant text NOT NULL,
    id text NOT NULL,
    consumer text NOT NULL,
    topic text NOT NULL,                      -- without prefix
    partition integer NOT NULL,
    "offset" bigint NOT NULL,
    key bytea,
    value bytea,
    headers bytea NOT NULL,                   -- packed like those of the outbox
    event_id text,
    event_type text,
    reason text NOT NULL,                     -- a stable word
    message text NOT NULL,
    failed_at timestamptz NOT NULL DEFAULT now(),
    replayed_at timestamptz,
    replayed_by text,
    PRIMARY KEY (tenant, id)
);

-- Where a fold of streams goes on: written with the state that the fold made of everything before.
CREATE TABLE fold_offset (
    tenant text NOT NULL DEFAULT 'default',
    topic text NOT NULL,
    partition integer NOT NULL,
    next_offset bigint NOT NULL,
    PRIMARY KEY (tenant, topic, partition)
);
