-- Each process asks for the rows that are still running when it opens the database: without these it reads all rows there
-- ever were. Portable SQL, as in 0001.

CREATE INDEX backup_logs_by_status ON backup_logs (status, host);
CREATE INDEX restore_logs_by_status ON restore_logs (status, host);
CREATE INDEX test_logs_by_status ON test_logs (status, host);
