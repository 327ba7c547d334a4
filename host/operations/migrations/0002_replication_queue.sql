-- Replicas that lag behind: one row for each project and store of a host from the first failure until the replica is
-- whole again. Portable SQL, as in 0001. What is still to be sent is NULL where nobody could say.

CREATE TABLE replication_queue (
    host            VARCHAR(255) NOT NULL,
    project         VARCHAR(64)  NOT NULL,
    store           VARCHAR(64)  NOT NULL,
    since           VARCHAR(32)  NOT NULL,
    attempts        BIGINT       NOT NULL,
    last_try        VARCHAR(32)  NOT NULL,
    next_try        VARCHAR(32)  NOT NULL,
    last_error      TEXT         NOT NULL,
    pending_objects BIGINT,
    pending_bytes   BIGINT,
    PRIMARY KEY (host, project, store)
);
