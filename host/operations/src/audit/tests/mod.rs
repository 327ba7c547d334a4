//! One suite for every server: each test is a function of a [`Place`], called with a database of each kind.

mod alerts;
mod erasures;
mod leases;
mod logs;
mod messages;
mod queue;
mod servers;

use super::{AuditLog, LogEnd, LogStart};
use havun_tests::{MariaDb, PostgreSql};
use jiff::Timestamp;
use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

/// Makes a test of each named function for each kind of database.
macro_rules! on_each_database {
    ($($test:ident),* $(,)?) => {
        mod sqlite {
            $(#[test]
            fn $test() {
                super::$test(&crate::audit::tests::Place::sqlite());
            })*
        }
        mod mariadb {
            $(#[test]
            fn $test() {
                super::$test(&crate::audit::tests::Place::mariadb());
            })*
        }
        mod postgresql {
            $(#[test]
            fn $test() {
                super::$test(&crate::audit::tests::Place::postgresql());
            })*
        }
    };
}
use on_each_database;

fn start(project: &str, second: i64) -> LogStart {
    LogStart {
        run_id: format!("run-{second}"),
        project: project.to_owned(),
        host: "here".to_owned(),
        action: "run".to_owned(),
        started_at: Timestamp::from_second(1_700_000_000 + second).unwrap(),
        snapshot: None,
        stores: vec!["local".to_owned(), "archive".to_owned()],
        target: String::new(),
        strategy: "laravel 1.0.0".to_owned(),
        strategy_digest: "ab".repeat(32),
        started_by: "operator".to_owned(),
        user: "root".to_owned(),
        program: "havun-backup 0.1.0".to_owned(),
    }
}

fn end(status: &str, second: i64) -> LogEnd {
    LogEnd {
        status: status.to_owned(),
        ended_at: Timestamp::from_millisecond(1_700_000_000_000 + second * 1000 + 250).unwrap(),
        snapshot: Some("cd".repeat(32)),
        files: 3,
        bytes: 5_000_000_000,
        bytes_added: 7,
        problems: 0,
        message: String::new(),
        details: serde_json::json!({ "torn": ["a"] }),
    }
}

/// Every character that a URL gives a meaning to.
const PASSWORD: &str = "p@ss:w/rd?#%25&+ =é'\"\\";
const PASSWORD_IN_URL: &str = "p%40ss%3Aw%2Frd%3F%23%2525%26%2B%20%3D%C3%A9%27%22%5C";

/// An empty database.
struct Place {
    server: Server,
    url: String,
}

/// Where it is, for as long as the test takes.
enum Server {
    File { _folder: tempfile::TempDir },
    MariaDb(Arc<MariaDb>, String),
    PostgreSql(Arc<PostgreSql>, String),
}

impl Place {
    fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/audit.db");
        Self { url: format!("sqlite://{}", path.display()), server: Server::File { _folder: folder } }
    }

    /// Its default would compare names without regard to case, and knows no letter beyond latin1.
    fn mariadb() -> Self {
        let server = MariaDb::shared();
        let name = unique();
        server.sql(&format!(
            "CREATE DATABASE {name} CHARACTER SET latin1 COLLATE latin1_swedish_ci;
             CREATE USER {name}@'127.0.0.1' IDENTIFIED BY '{}';
             GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, INDEX ON {name}.* TO {name}@'127.0.0.1';",
            PASSWORD.replace('\\', "\\\\").replace('\'', "''")
        ));
        let url = format!("mariadb://{name}:{PASSWORD_IN_URL}@127.0.0.1:{}/{name}", server.port());
        Self { url, server: Server::MariaDb(server, name) }
    }

    fn postgresql() -> Self {
        let server = PostgreSql::shared();
        let name = unique();
        let password = PASSWORD.replace('\'', "''");
        server.sql("postgres", &format!("CREATE ROLE {name} LOGIN PASSWORD '{password}'"));
        server.sql("postgres", &format!("CREATE DATABASE {name} OWNER {name}"));
        let url = format!("postgres://{name}:{PASSWORD_IN_URL}@127.0.0.1:{}/{name}", server.port());
        Self { url, server: Server::PostgreSql(server, name) }
    }

    fn open(&self) -> AuditLog {
        self.open_as("here")
    }

    fn open_as(&self, host: &str) -> AuditLog {
        AuditLog::open(&self.url, host).unwrap()
    }

    /// Ends every connection to it, as a server does that is started again.
    fn end_connections(&self) {
        match &self.server {
            Server::File { .. } => {}
            Server::MariaDb(server, name) => {
                let list = format!("SELECT CONCAT('KILL ', id, ';') FROM information_schema.processlist WHERE user = '{name}'");
                server.sql(&server.sql(&list));
            }
            Server::PostgreSql(server, name) => {
                let end = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{name}'");
                server.sql("postgres", &end);
            }
        }
    }
}

fn unique() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("audit_{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}
