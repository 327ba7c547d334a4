-- What each run counted, as the next ones are compared with. Portable SQL, as in 0001. Whoever loses this table has the
-- same in the snapshots.

CREATE TABLE observations (
    id          VARCHAR(40)  NOT NULL PRIMARY KEY,
    host        VARCHAR(255) NOT NULL,
    project     VARCHAR(64)  NOT NULL,
    run_id      VARCHAR(64)  NOT NULL,
    taken_at    VARCHAR(32)  NOT NULL,
    flagged     BIGINT       NOT NULL,
    observed    TEXT         NOT NULL
);

CREATE INDEX observations_by_project ON observations (host, project, taken_at);
CREATE INDEX backup_logs_by_action ON backup_logs (project, action, started_at);
