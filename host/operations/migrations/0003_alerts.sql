-- What needs a person: one row from the moment that something goes wrong until it is right again, then kept. Portable
-- SQL, as in 0001. An alert that is raised again while it is open is counted, not added.

CREATE TABLE alerts (
    id          VARCHAR(40)  NOT NULL PRIMARY KEY,
    host        VARCHAR(255) NOT NULL,
    project     VARCHAR(64)  NOT NULL,
    store       VARCHAR(64)  NOT NULL,
    kind        VARCHAR(32)  NOT NULL,
    message     TEXT         NOT NULL,
    hint        TEXT         NOT NULL,
    exit_status BIGINT       NOT NULL,
    run_id      VARCHAR(64)  NOT NULL,
    raised_at   VARCHAR(32)  NOT NULL,
    last_seen   VARCHAR(32)  NOT NULL,
    times       BIGINT       NOT NULL,
    resolved_at VARCHAR(32)
);

CREATE INDEX alerts_by_project ON alerts (host, project, store, kind);
