-- Periodic work of the daemon, one row for each host and task: when it was last begun, and, after a failure, when it is
-- tried again. Portable SQL, as in 0001.

CREATE TABLE daemon_tasks (
    host       VARCHAR(255) NOT NULL,
    task       VARCHAR(64)  NOT NULL,
    last_begun VARCHAR(32)  NOT NULL,
    last_ended VARCHAR(32),
    status     VARCHAR(16)  NOT NULL,
    failures   BIGINT       NOT NULL,
    next_try   VARCHAR(32),
    message    TEXT         NOT NULL,
    PRIMARY KEY (host, task)
);
