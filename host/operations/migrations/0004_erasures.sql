-- The erasure register, as the vaults have it too: whose data was erased from a project, so that it is erased again from
-- what is restored from an older backup. Portable SQL, as in 0001. A subject is the SHA-256 of an identifier.

CREATE TABLE erasures (
    id               VARCHAR(40)  NOT NULL PRIMARY KEY,
    project          VARCHAR(64)  NOT NULL,
    created          VARCHAR(40)  NOT NULL,
    created_by       VARCHAR(255) NOT NULL,
    subject          VARCHAR(64)  NOT NULL,
    note             TEXT         NOT NULL,
    withdrawn_at     VARCHAR(40),
    withdrawn_by     VARCHAR(255),
    withdrawn_reason TEXT
);

CREATE INDEX erasures_by_project ON erasures (project, created);
