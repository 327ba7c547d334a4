-- Which host runs a project: one row for each project that was ever run. Portable SQL, as in 0001. Whoever takes a lease
-- increases its token; who finds another token than its own has lost it. `expires_ms` is in milliseconds since 1970, by the
-- clock of the database's server. `done_slot` is the latest moment of the schedule that was served, by whichever host.

CREATE TABLE run_leases (
    project     VARCHAR(64)  NOT NULL PRIMARY KEY,
    token       BIGINT       NOT NULL,
    held        BIGINT       NOT NULL,
    host        VARCHAR(255) NOT NULL,
    pid         BIGINT       NOT NULL,
    process_key VARCHAR(64)  NOT NULL,
    run_id      VARCHAR(64)  NOT NULL,
    expires_ms  BIGINT       NOT NULL,
    done_slot   VARCHAR(32)  NOT NULL,
    done_host   VARCHAR(255) NOT NULL,
    done_at     VARCHAR(32)  NOT NULL
);
