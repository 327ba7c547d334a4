//! With programs that stand in for `mongodump` and `mongorestore`: what is done with what they write, say and end with.

use super::{super::Mongodb, *};
use crate::databases::{DumpForm, DumpOptions, DumpReport, RestoreOutcome, RestoreTarget};
use havun_model::{Cancel, DatabaseRecord};
use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

const PASSWORD: &str = "p:w/ö";

/// Writes down what it was given, and gives the archive of the database that it is asked for.
const MONGODUMP: &str = r#"#!/bin/sh
cd "$(dirname "$0")" || exit 9
[ "$1" = --version ] && { echo "mongodump version: 100.10.0"; exit 0; }
cat /dev/fd/3 >config; echo "$@" >>arguments; env >>environment
for last; do :; done
name="${last#--db=}"
if [ -e "$name" ]; then cat "$name"; else cat empty; fi
[ -e complaint ] && { cat complaint >&2; exit 1; }
exit 0
"#;

/// Puts what it is given in the place of the database, and says what it is told to say.
const MONGORESTORE: &str = r#"#!/bin/sh
cd "$(dirname "$0")" || exit 9
cat /dev/fd/3 >config; echo "$@" >>arguments; env >>environment
case "$*" in *_havun_restore_*) cat >scratch.given ;; *) cat >given; mv given shop ;; esac
cat last-word >&2
case "$*" in *--drop*) [ -e fail-drop ] && exit 1 ;; esac
exit 0
"#;

struct Place {
    folder: tempfile::TempDir,
}

/// Written by another program, so that no file that is run is still open for writing in this one.
fn install(path: &Path, script: &str) {
    let mut command = Command::new("install");
    let mut child = command.args(["-m", "755", "/dev/stdin"]).arg(path).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

fn place() -> Place {
    let folder = tempfile::tempdir().unwrap();
    install(&folder.path().join("mongodump"), MONGODUMP);
    install(&folder.path().join("mongorestore"), MONGORESTORE);
    let place = Place { folder };
    place.put("empty", &prelude(&[]));
    place.put("last-word", b"2026-11-28T00:31:00.000+0000\t4 document(s) restored successfully. 0 document(s) failed to restore.\n");
    place
}

impl Place {
    fn put(&self, name: &str, bytes: &[u8]) {
        fs::write(self.folder.path().join(name), bytes).unwrap();
    }

    fn read(&self, name: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.folder.path().join(name)).unwrap()).into_owned()
    }

    fn engine(&self) -> Mongodb {
        let parameters = [("host", "db"), ("user", "u"), ("password", PASSWORD), ("database", "shop")];
        let mut engine = Mongodb::new(resolved(&parameters).unwrap()).unwrap();
        engine.folders = vec![self.folder.path().to_owned()];
        engine
    }

    fn dump(&self) -> Result<(Vec<u8>, DumpReport), DatabaseError> {
        let engine = self.engine();
        let options = DumpOptions { exclude_rows: Vec::new(), scratch_dir: std::env::temp_dir(), lock_wait: Duration::from_secs(1) };
        let mut dump = engine.begin_dump(&options, &Cancel::default())?;
        let mut bytes = Vec::new();
        dump.write(DumpForm { extension: "archive", restorable: true }, &mut bytes)?;
        Ok((bytes, dump.finish()))
    }

    fn restore(&self, archive: &[u8], replace: bool) -> Result<RestoreOutcome, DatabaseError> {
        let found = read(&whole()).unwrap();
        let record =
            DatabaseRecord { database: "shop".to_owned(), rows: found.rows(), objects: found.objects(), ..DatabaseRecord::default() };
        let target = RestoreTarget {
            database: None,
            replace,
            safety_dir: self.folder.path().join("safety"),
            stamp: "20261128_003100".to_owned(),
            owner: None,
            lock_wait: Duration::from_secs(1),
            erase: None,
        };
        self.engine().restore(&|out| out.write_all(archive).map_err(Into::into), &record, &target, &Cancel::default())
    }

    fn assert_no_secret(&self) {
        for name in ["arguments", "environment"] {
            let text = self.read(name);
            assert!(!text.contains(PASSWORD) && !text.contains("p%3Aw"), "{name}: {text}");
        }
        assert!(self.read("config").starts_with("uri: \"mongodb://u:p%3Aw%2F%C3%B6@db/?"));
    }
}

#[test]
fn a_dump_passes_unchanged_and_is_counted() {
    let place = place();
    place.put("shop", &whole());
    let (bytes, report) = place.dump().unwrap();
    assert!(bytes == whole());
    assert_eq!(report.record.rows["orders"], 3);
    assert_eq!(report.record.objects["indexes"], 3);
    assert_eq!((report.record.server_version.as_str(), report.record.client_version.as_str()), ("7.0.14", "mongodump version: 100.10.0"));
    assert!(report.record.warnings[0].contains("not of one point in time"), "{:?}", report.record.warnings);
    place.assert_no_secret();
}

#[test]
fn a_cut_archive_is_no_dump_though_the_program_ends_well() {
    let place = place();
    place.put("shop", &parts()[..4].concat());
    let error = place.dump().unwrap_err();
    assert!(matches!(error, DatabaseError::Truncated { .. }), "{error}");
}

#[test]
fn a_failed_dump_says_why_without_the_password() {
    let place = place();
    place.put("shop", &whole());
    place.put("complaint", format!("Failed: can't create session: mongodb://u:p%3Aw%2F%C3%B6@db ({PASSWORD}): auth error").as_bytes());
    let engine = place.engine();
    let clients = engine.clients("shop").unwrap();
    let error = clients.dump("shop", &mut std::io::sink(), &Cancel::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot connect to MongoDB database `shop` at db: Failed: can't create session: mongodb://u:***@db (***): auth error"
    );
}

#[test]
fn a_database_that_is_not_there_is_no_empty_dump() {
    let error = place().dump().unwrap_err();
    assert!(matches!(error, DatabaseError::NoDatabase { .. }), "{error}");
}

#[test]
fn a_missing_program_is_named() {
    let place = place();
    fs::remove_file(place.folder.path().join("mongorestore")).unwrap();
    let error = place.dump().unwrap_err();
    assert_eq!(error.to_string(), "no client for MongoDB on this machine: none of mongorestore is on the PATH");
}

#[test]
fn an_empty_target_is_filled_and_counted() {
    let place = place();
    let outcome = place.restore(&whole(), false).unwrap();
    assert_eq!((outcome.tables_verified, outcome.rows_verified, outcome.problems), (3, 4, Vec::new()));
    assert!(outcome.safety_dump.is_none() && place.read("arguments").contains("--nsTo=shop.*"));
    place.assert_no_secret();
}

#[test]
fn a_target_that_holds_something_is_refused_untouched() {
    let place = place();
    place.put("shop", &whole());
    let error = place.restore(&whole(), false).unwrap_err();
    assert_eq!(error.to_string(), "MongoDB database `shop` at db is not empty (3 collections, 1 views); nothing was changed");
    assert!(!place.read("arguments").contains("--nsTo"));
}

fn former() -> Vec<u8> {
    [prelude(&[("old", "collection", "{}")]), block("old", &[order(7)]), ending("old", &[order(7)])].concat()
}

#[test]
fn what_is_replaced_is_proved_first_and_kept_in_a_file() {
    let place = place();
    place.put("shop", &former());
    let outcome = place.restore(&whole(), true).unwrap();
    assert!(fs::read(outcome.safety_dump.unwrap()).unwrap() == former());
    assert!(fs::read(place.folder.path().join("scratch.given")).unwrap() == whole());
    assert!(outcome.warnings[0].contains("database `shop_havun_restore_1`"), "{:?}", outcome.warnings);
    assert!(outcome.problems[0].contains("collection `old` is not in the dump and is still there"), "{:?}", outcome.problems);
    place.assert_no_secret();
}

#[test]
fn a_dump_that_does_not_load_leaves_the_target() {
    let place = place();
    place.put("shop", &former());
    place.put("last-word", b"3 document(s) restored successfully. 1 document(s) failed to restore.");
    let error = place.restore(&whole(), true).unwrap_err();
    assert!(matches!(error, DatabaseError::ScratchLeft { .. }), "{error}");
    assert!(fs::read(place.folder.path().join("shop")).unwrap() == former());
}

#[test]
fn a_replacement_that_fails_half_way_says_where_everything_is() {
    let place = place();
    place.put("shop", &former());
    place.put("fail-drop", b"");
    let error = place.restore(&whole(), true).unwrap_err();
    let DatabaseError::HalfReplaced { safety_dump, scratch, .. } = error else { panic!("{error}") };
    assert!(fs::read(safety_dump).unwrap() == former() && scratch == "shop_havun_restore_1");
}

#[test]
fn a_stored_archive_that_differs_from_its_record_never_reaches_the_server() {
    let place = place();
    for archive in [former(), parts()[..4].concat(), b"PK".to_vec(), b"nonsense".to_vec()] {
        let error = place.restore(&archive, false).unwrap_err();
        assert!(matches!(error, DatabaseError::BadDump { .. }), "{error}");
    }
    assert!(!place.read("arguments").contains("--nsTo"));
}
