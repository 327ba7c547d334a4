//! What only a server can do, or only a file.

use super::{PASSWORD, Place, end, start};
use crate::audit::{Access, AuditError, AuditLog};
use std::{error::Error as _, os::unix::fs::PermissionsExt, path::Path, sync::Arc};

#[test]
fn the_file_is_private() {
    let place = Place::sqlite();
    place.open().close();
    let path = Path::new(place.url.strip_prefix("sqlite://").unwrap());
    assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
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
