-- Messages to people and their deliveries. A message is made once under a key; the key keeps it from being made again. It has
-- one delivery for each channel that wants it, which waits until it was sent or given up. Portable SQL, as in 0001.

CREATE TABLE messages (
    id          VARCHAR(64)  NOT NULL PRIMARY KEY,
    host        VARCHAR(255) NOT NULL,
    message_key VARCHAR(255) NOT NULL,
    alert_id    VARCHAR(40)  NOT NULL,
    event       VARCHAR(16)  NOT NULL,
    subject     TEXT         NOT NULL,
    content     TEXT         NOT NULL,
    created_at  VARCHAR(32)  NOT NULL
);

CREATE INDEX messages_by_alert ON messages (host, alert_id);

CREATE TABLE deliveries (
    message_id  VARCHAR(64)  NOT NULL,
    channel     VARCHAR(64)  NOT NULL,
    host        VARCHAR(255) NOT NULL,
    state       VARCHAR(16)  NOT NULL,
    attempts    BIGINT       NOT NULL,
    created_at  VARCHAR(32)  NOT NULL,
    next_try    VARCHAR(32)  NOT NULL,
    last_error  TEXT         NOT NULL,
    ended_at    VARCHAR(32),
    PRIMARY KEY (message_id, channel)
);

CREATE INDEX deliveries_by_state ON deliveries (host, state, channel);
