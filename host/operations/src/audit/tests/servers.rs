//! What only a server can do, or only a file.

use super::{PASSWORD, Place, at, end, start};
use crate::audit::{Access, AuditError, AuditLog, Claim, Wanted, address::Address, args, connection::Connection, migrations};
use havun_tests::{MariaDb, PostgreSql, Relay};
use std::{
    error::Error as _,
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

#[test]
fn the_file_is_private() {
    let place = Place::sqlite();
    place.open().close();
    let path = Path::new(place.url.strip_prefix("sqlite://").unwrap());
    assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_url_that_cannot_be_used_is_refused_without_repeating_it() {
    for url in [
        "/var/lib/audit.db",
        "sqlite://relative.db",
        "mssql://u:secret@h/d",
        "mysql://u:secret@h",
        "postgres://u:secret@h:port/d",
        "postgres://u:se#cret@h/d",
        "mysql://u:secret@h/d?ssl_mode=REQUIRED",
        "mysql://u:secret@h/d?ssl-mode=require",
        "postgres://u:secret@h/d?sslmode=REQUIRED_",
        "postgres://u@h/d?password=secret",
    ] {
        let error = AuditLog::open(url, "here").err().unwrap();
        assert!(matches!(error, AuditError::Url { .. }), "{url}: {error:?}");
        assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
    }
}

#[test]
fn a_password_may_stand_apart_from_its_url() {
    for place in [Place::mariadb(), Place::postgresql()] {
        let (login, server) = place.url.rsplit_once('@').unwrap();
        let url = format!("{}@{server}", login.rsplit_once(':').unwrap().0);
        let access = Access { password: Some(PASSWORD), ..Access::new(&url, "here") };
        AuditLog::open_with(&access).unwrap().close();
        let error = AuditLog::open_with(&Access { password: Some("wrong secret"), ..access }).err().unwrap();
        let told = format!("{error}: {:?}", error.source());
        assert!(matches!(error, AuditError::Database { what: "open", .. }), "{told}");
        assert!(!told.contains("wrong secret"), "{told}");
    }
}

#[test]
fn a_server_that_is_away_is_told_after_a_few_attempts() {
    let waited = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = Arc::clone(&waited);
    for url in ["postgres://u:secret@127.0.0.1:1/d", "mysql://u:secret@127.0.0.1:1/d"] {
        let seen = Arc::clone(&seen);
        let access = Access { sleeper: Arc::new(move |time| seen.lock().unwrap().push(time)), ..Access::new(url, "here") };
        let error = AuditLog::open_with(&access).err().unwrap();
        assert_eq!(error.to_string(), "the audit database at 127.0.0.1:1 does not answer");
        assert!(error.is_gone() && !format!("{error:?}").contains("secret"), "{error:?}");
    }
    let waited = waited.lock().unwrap();
    assert!(waited.len() == 4, "{waited:?}");
}

#[test]
fn a_database_of_a_newer_version_is_not_touched() {
    for place in [Place::sqlite(), Place::mariadb(), Place::postgresql()] {
        let log = place.open();
        log.execute("UPDATE _sqlx_migrations SET version = 9999 WHERE version = 1", &[]).unwrap();
        log.close();
        let error = AuditLog::open(&place.url, "here").err().unwrap();
        assert!(matches!(error, AuditError::Migrate(_)), "{error:?}");
    }
}

#[test]
fn work_goes_on_after_the_server_ended_every_connection() {
    for place in [Place::mariadb(), Place::postgresql()] {
        let log = place.open();
        let id = log.begin_backup(&start("shop", 0)).unwrap();
        place.end_connections();
        log.end(id, &end("ok", 1)).unwrap();
        assert_eq!(log.logs(None, 1).unwrap()[0].status, "ok");
        place.end_connections();
        log.add_whole(&[(start("shop", 2), end("ok", 3))]).unwrap();
        assert_eq!(log.logs(None, 10).unwrap().len(), 2);
    }
}

#[test]
fn work_goes_on_after_the_server_was_started_again() {
    let (mut mariadb, mut postgresql) = (MariaDb::start(), PostgreSql::start());
    mariadb.sql("CREATE DATABASE audit; CREATE USER u@'127.0.0.1' IDENTIFIED BY 'p'; GRANT ALL ON audit.* TO u@'127.0.0.1';");
    postgresql.sql("postgres", "CREATE ROLE u LOGIN PASSWORD 'p'");
    postgresql.sql("postgres", "CREATE DATABASE audit OWNER u");
    let open = |scheme: &str, port: u16| AuditLog::open(&format!("{scheme}://u:p@127.0.0.1:{port}/audit"), "here").unwrap();
    let logs = [open("mysql", mariadb.port()), open("postgresql", postgresql.port())];
    let rows: Vec<_> = logs.iter().map(|log| log.begin_backup(&start("shop", 0)).unwrap()).collect();
    mariadb.restart();
    postgresql.restart();
    for (log, row) in logs.iter().zip(rows) {
        log.end(row, &end("ok", 1)).unwrap();
        assert_eq!(log.logs(None, 10).unwrap()[0].status, "ok");
    }
}

/// A certificate for 127.0.0.1 by an authority of its own: `ca.pem`, `server.pem`, `server.key`.
fn certify(folder: &Path) {
    let openssl = |arguments: &[&str]| {
        let common = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
        let output = Command::new("openssl").current_dir(folder).args(common).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    openssl(&["-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=authority"]);
    openssl(&[
        "-keyout",
        "server.key",
        "-out",
        "server.pem",
        "-subj",
        "/CN=server",
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-addext",
        "basicConstraints=critical,CA:FALSE",
    ]);
}

#[test]
fn a_server_proves_who_it_is_where_the_url_asks_for_it() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    certify(folder.path());
    certify(other.path());
    let file = |name: &str| folder.path().join(name).display().to_string();
    let mariadb = MariaDb::start_with(&[&format!("--ssl-cert={}", file("server.pem")), &format!("--ssl-key={}", file("server.key"))]);
    mariadb.sql("CREATE DATABASE audit; CREATE USER u@'127.0.0.1' IDENTIFIED BY 'p'; GRANT ALL ON audit.* TO u@'127.0.0.1';");
    let postgresql = PostgreSql::start_with_tls(&folder.path().join("server.pem"), &folder.path().join("server.key"));
    postgresql.sql("postgres", "CREATE ROLE u LOGIN PASSWORD 'p'");
    postgresql.sql("postgres", "CREATE DATABASE audit OWNER u");
    for (scheme, port, asked, used) in [
        ("mysql", mariadb.port(), "ssl-mode=VERIFY_IDENTITY&ssl-ca", "SHOW SESSION STATUS LIKE 'Ssl_version'"),
        (
            "postgres",
            postgresql.port(),
            "sslmode=verify-full&sslrootcert",
            "SELECT version AS \"Value\" FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
        ),
    ] {
        let url = |folder: &Path| format!("{scheme}://u:p@127.0.0.1:{port}/audit?{asked}={}/ca.pem", folder.display());
        let log = AuditLog::open(&url(folder.path()), "here").unwrap();
        let version = log.fetch(used, &[]).unwrap()[0].text("Value").unwrap();
        assert!(version.starts_with("TLSv1."), "{scheme}: {version:?}");
        let error = AuditLog::open(&url(other.path()), "here").err().unwrap();
        assert!(matches!(error, AuditError::Database { what: "open", .. }), "{scheme}: {error:?}");
        let by_name = url(folder.path()).replace("127.0.0.1", "localhost");
        assert!(AuditLog::open(&by_name, "here").is_err(), "{scheme}: the certificate is for another name");
    }
}

/// Between us and a server, to be cut.
fn relayed(place: &Place) -> (Relay, String) {
    let (login, server) = place.url.rsplit_once('@').unwrap();
    let (port, database) = server.strip_prefix("127.0.0.1:").unwrap().split_once('/').unwrap();
    let relay = Relay::start(port.parse().unwrap(), Duration::ZERO);
    let url = format!("{login}@127.0.0.1:{}/{database}", relay.port());
    (relay, url)
}

#[test]
fn no_run_is_lost_when_the_server_goes_away_in_the_middle_of_it() {
    for place in [Place::mariadb(), Place::postgresql()] {
        let (relay, url) = relayed(&place);
        let folder = tempfile::tempdir().unwrap();
        let spool = folder.path().join("audit-spool");
        let waits = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&waits);
        let sleeper = Arc::new(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        let access = Access { spool: Some(&spool), sleeper, ..Access::new(&url, "here") };
        let log = AuditLog::open_with(&access).unwrap();
        let wanted = Wanted { project: "shop", run_id: "run-0", slot: Some(at(0)), ttl: Duration::from_secs(60), force: false };
        let Claim::Mine(lease) = log.claim(&wanted, at(0)).unwrap() else { panic!("nobody else is there") };
        let row = log.begin_backup(&start("shop", 0)).unwrap();
        relay.cut();
        assert!(log.renew(&lease, at(1)).unwrap_err().is_gone());
        log.end(row, &end("ok", 1)).unwrap();
        log.release(&lease, true, at(1)).unwrap();
        assert!(log.begin_backup(&start("shop", 2)).unwrap_err().is_gone(), "what cannot be recorded does not begin");
        assert_eq!(fs::read_dir(&spool).unwrap().count(), 2);
        assert_eq!(waits.load(Ordering::Relaxed), 5, "it is waited for once, not by everybody");
        assert_eq!(place.open().logs(None, 10).unwrap()[0].status, "running");

        relay.mend();
        fs::write(spool.join("0.json"), "half a fi").unwrap();
        let _next = log.begin_backup(&start("shop", 3)).unwrap();
        let kept: Vec<_> = fs::read_dir(&spool).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(kept, ["0.refused"], "what cannot be read stands in nobody's way");
        let rows = log.logs(None, 10).unwrap();
        assert_eq!((rows.len(), rows[1].status.as_str(), rows[1].files), (2, "ok", 3));
        assert!(matches!(log.claim(&wanted, at(4)).unwrap(), Claim::Done { .. }));
    }
}

#[test]
fn what_was_kept_is_written_by_the_next_process() {
    let place = Place::postgresql();
    let (relay, url) = relayed(&place);
    let folder = tempfile::tempdir().unwrap();
    let access = Access { spool: Some(folder.path()), sleeper: Arc::new(|_| {}), ..Access::new(&url, "here") };
    let log = AuditLog::open_with(&access).unwrap();
    let row = log.begin_backup(&start("shop", 0)).unwrap();
    relay.cut();
    log.end(row, &end("partial", 1)).unwrap();
    drop(log);
    assert!(AuditLog::open_with(&access).err().unwrap().is_gone());
    relay.mend();
    assert_eq!(AuditLog::open_with(&access).unwrap().logs(None, 1).unwrap()[0].status, "partial");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// As an earlier version left it: with its migrations only.
#[test]
fn an_old_database_gets_the_new_tables_and_keeps_its_rows() {
    for place in [Place::sqlite(), Place::mariadb(), Place::postgresql()] {
        old_database(&place.url);
        let log = place.open();
        assert!(log.leave_queue("shop", "archive").unwrap());
        assert_eq!(log.fetch("SELECT COUNT(*) AS counted FROM run_leases", &[]).unwrap()[0].int("counted").unwrap(), 0);
    }
}

fn old_database(url: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let address = Address::parse(url, None).unwrap();
    if let Address::Sqlite(options) = &address {
        migrations::make_private(options.get_filename()).unwrap();
    }
    let row = "INSERT INTO replication_queue (since, attempts, last_try, next_try, last_error, host, project, store) \
               VALUES (?, 1, ?, ?, 'away', 'here', 'shop', 'archive')";
    runtime.block_on(async {
        let mut connection = Connection::open(&address).await.unwrap();
        migrations::run_to(&mut connection, 7).await.unwrap();
        connection.execute(row, args![at(0), at(0), at(0)]).await.unwrap();
        connection.close().await;
    });
}
