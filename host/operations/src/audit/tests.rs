use super::*;

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

struct Place {
    _folder: tempfile::TempDir,
    url: String,
    path: PathBuf,
}

fn place() -> Place {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state/audit.db");
    Place { url: format!("sqlite://{}", path.display()), path, _folder: folder }
}

#[test]
fn a_row_is_there_while_the_work_runs_and_complete_afterwards() {
    let place = place();
    let log = AuditLog::open(&place.url, "here").unwrap();
    let id = log.begin_backup(&start("shop", 0)).unwrap();
    let rows = AuditLog::open(&place.url, "here").unwrap().logs(Some("shop"), 10).unwrap();
    assert_eq!((rows.len(), rows[0].status.as_str(), rows[0].ended_at.as_deref()), (1, "running", None));

    log.end(id, &end("ok", 2)).unwrap();
    let row = log.logs(None, 10).unwrap().remove(0);
    assert_eq!((row.kind.as_str(), row.status.as_str(), row.duration_ms), ("backup", "ok", Some(2250)));
    assert_eq!(
        (row.bytes, row.stores, row.details["torn"][0].as_str()),
        (5_000_000_000, vec!["local".to_owned(), "archive".to_owned()], Some("a"))
    );
    assert_eq!((row.started_at.as_str(), row.snapshot), ("2023-11-14T22:13:20.000000Z", Some("cd".repeat(32))));
}

#[test]
fn rows_come_newest_first_from_all_tables_and_by_project() {
    let log = AuditLog::open(&place().url, "here").unwrap();
    log.end(log.begin_backup(&start("shop", 1)).unwrap(), &end("ok", 1)).unwrap();
    log.end(log.begin_test(&start("shop", 3)).unwrap(), &end("failed", 3)).unwrap();
    log.end(log.begin_restore(&start("blog", 2)).unwrap(), &end("partial", 2)).unwrap();
    let kinds = |rows: Vec<LogRow>| rows.into_iter().map(|row| row.kind).collect::<Vec<_>>();
    assert_eq!(kinds(log.logs(None, 10).unwrap()), ["test", "restore", "backup"]);
    assert_eq!(kinds(log.logs(Some("shop"), 10).unwrap()), ["test", "backup"]);
    assert_eq!(kinds(log.logs(None, 1).unwrap()), ["test"]);
}

#[test]
fn the_row_of_a_dead_process_becomes_interrupted_and_others_do_not() {
    let place = place();
    let log = AuditLog::open(&place.url, "here").unwrap();
    let dead = log.begin_backup(&start("shop", 0)).unwrap();
    let alive = log.begin_backup(&start("shop", 1)).unwrap();
    log.with(|runtime, connection| {
        let statement = sqlx::query("UPDATE backup_logs SET process_key = 'another life' WHERE id = ?").bind(&dead.id);
        runtime.block_on(statement.execute(connection)).unwrap();
    });
    log.close();

    let log = AuditLog::open(&place.url, "here").unwrap();
    let rows = log.logs(None, 10).unwrap();
    assert_eq!(rows.iter().map(|row| row.status.as_str()).collect::<Vec<_>>(), ["running", "interrupted"]);
    assert!(rows[1].message.contains("killed"), "{}", rows[1].message);
    log.end(alive, &end("ok", 2)).unwrap();
    assert_eq!(log.logs(None, 1).unwrap()[0].status, "ok");
}

#[test]
fn two_processes_write_at_the_same_time() {
    let place = place();
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let url = &place.url;
            scope.spawn(move || {
                let log = AuditLog::open(url, "here").unwrap();
                for second in 0..10 {
                    log.end(log.begin_backup(&start(&format!("p{writer}"), second)).unwrap(), &end("ok", second)).unwrap();
                }
            });
        }
    });
    assert_eq!(AuditLog::open(&place.url, "here").unwrap().logs(None, 1000).unwrap().len(), 40);
}

#[test]
fn the_file_is_private_and_foreign_urls_are_refused() {
    use std::os::unix::fs::PermissionsExt;
    let place = place();
    AuditLog::open(&place.url, "here").unwrap().close();
    assert_eq!(std::fs::metadata(&place.path).unwrap().permissions().mode() & 0o777, 0o600);
    for url in ["/var/lib/audit.db", "mysql://u:secret@h/d", "sqlite://relative.db"] {
        let error = AuditLog::open(url, "here").err().unwrap().to_string();
        assert!(!error.contains("secret"), "{error}");
    }
}
