-- Keys of subjects, found without storing who they are, and what was asked to be erased.
CREATE TABLE subject_key (
    tenant text NOT NULL,
    blind_index bytea NOT NULL,                  -- HMAC of the identifier under the master key
    pseudonym text NOT NULL,
    wrapped bytea NOT NULL,                      -- the secret, encrypted by the master key
    PRIMARY KEY (tenant, blind_index)
);
CREATE UNIQUE INDEX subject_key_pseudonym ON subject_key (tenant, pseudonym);

CREATE TABLE erasure (
    tenant text NOT NULL,
    id text NOT NULL,
    blind_index bytea NOT NULL,
    pseudonym text,                              -- null: nothing was known of the subject
    identifier bytea,                            -- encrypted; gone when it is proven that the subject is
    reason text NOT NULL,
    asked_by text NOT NULL,
    asked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    deadline timestamptz NOT NULL,
    done_at timestamptz,
    proof jsonb,                                 -- of the last attempt
    PRIMARY KEY (tenant, id)
);
CREATE UNIQUE INDEX erasure_open ON erasure (tenant, blind_index) WHERE done_at IS NULL;
