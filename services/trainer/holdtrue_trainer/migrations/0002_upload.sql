-- Model files that were brought along, by who brought them; the bytes are blobs.
CREATE TABLE upload (
    tenant text NOT NULL,
    digest text NOT NULL,                     -- sha256, hexadecimal
    size bigint NOT NULL,
    uploaded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, digest)
);
