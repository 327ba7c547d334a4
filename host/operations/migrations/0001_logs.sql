-- One row for each run, restore and check, written when it begins and completed when it ends. Portable SQL: the same
-- file makes the tables in SQLite, MySQL, MariaDB and PostgreSQL. Times are UTC, ISO 8601 with microseconds, so that
-- they sort as text; lists and details are JSON.

CREATE TABLE backup_logs (
    id              VARCHAR(40)  NOT NULL PRIMARY KEY,
    run_id          VARCHAR(64)  NOT NULL,
    project         VARCHAR(64)  NOT NULL,
    host            VARCHAR(255) NOT NULL,
    action          VARCHAR(32)  NOT NULL,
    status          VARCHAR(16)  NOT NULL,
    started_at      VARCHAR(32)  NOT NULL,
    ended_at        VARCHAR(32),
    duration_ms     BIGINT,
    snapshot        VARCHAR(64),
    stores          TEXT         NOT NULL,
    target          TEXT         NOT NULL,
    strategy        VARCHAR(128) NOT NULL,
    strategy_digest VARCHAR(64)  NOT NULL,
    files           BIGINT       NOT NULL,
    bytes           BIGINT       NOT NULL,
    bytes_added     BIGINT       NOT NULL,
    problems        BIGINT       NOT NULL,
    message         TEXT         NOT NULL,
    details         TEXT         NOT NULL,
    started_by      VARCHAR(32)  NOT NULL,
    user_name       VARCHAR(128) NOT NULL,
    program         VARCHAR(64)  NOT NULL,
    pid             BIGINT       NOT NULL,
    process_key     VARCHAR(64)  NOT NULL
);

CREATE INDEX backup_logs_by_project ON backup_logs (project, started_at);

CREATE TABLE restore_logs (
    id              VARCHAR(40)  NOT NULL PRIMARY KEY,
    run_id          VARCHAR(64)  NOT NULL,
    project         VARCHAR(64)  NOT NULL,
    host            VARCHAR(255) NOT NULL,
    action          VARCHAR(32)  NOT NULL,
    status          VARCHAR(16)  NOT NULL,
    started_at      VARCHAR(32)  NOT NULL,
    ended_at        VARCHAR(32),
    duration_ms     BIGINT,
    snapshot        VARCHAR(64),
    stores          TEXT         NOT NULL,
    target          TEXT         NOT NULL,
    strategy        VARCHAR(128) NOT NULL,
    strategy_digest VARCHAR(64)  NOT NULL,
    files           BIGINT       NOT NULL,
    bytes           BIGINT       NOT NULL,
    bytes_added     BIGINT       NOT NULL,
    problems        BIGINT       NOT NULL,
    message         TEXT         NOT NULL,
    details         TEXT         NOT NULL,
    started_by      VARCHAR(32)  NOT NULL,
    user_name       VARCHAR(128) NOT NULL,
    program         VARCHAR(64)  NOT NULL,
    pid             BIGINT       NOT NULL,
    process_key     VARCHAR(64)  NOT NULL
);

CREATE INDEX restore_logs_by_project ON restore_logs (project, started_at);

CREATE TABLE test_logs (
    id              VARCHAR(40)  NOT NULL PRIMARY KEY,
    run_id          VARCHAR(64)  NOT NULL,
    project         VARCHAR(64)  NOT NULL,
    host            VARCHAR(255) NOT NULL,
    action          VARCHAR(32)  NOT NULL,
    status          VARCHAR(16)  NOT NULL,
    started_at      VARCHAR(32)  NOT NULL,
    ended_at        VARCHAR(32),
    duration_ms     BIGINT,
    snapshot        VARCHAR(64),
    stores          TEXT         NOT NULL,
    target          TEXT         NOT NULL,
    strategy        VARCHAR(128) NOT NULL,
    strategy_digest VARCHAR(64)  NOT NULL,
    files           BIGINT       NOT NULL,
    bytes           BIGINT       NOT NULL,
    bytes_added     BIGINT       NOT NULL,
    problems        BIGINT       NOT NULL,
    message         TEXT         NOT NULL,
    details         TEXT         NOT NULL,
    started_by      VARCHAR(32)  NOT NULL,
    user_name       VARCHAR(128) NOT NULL,
    program         VARCHAR(64)  NOT NULL,
    pid             BIGINT       NOT NULL,
    process_key     VARCHAR(64)  NOT NULL
);

CREATE INDEX test_logs_by_project ON test_logs (project, started_at);
