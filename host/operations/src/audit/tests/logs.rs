use super::{Place, end, on_each_database, start};
use crate::audit::{AuditLog, LogRow, args};

on_each_database!(
    a_row_is_there_while_the_work_runs_and_complete_afterwards,
    rows_come_newest_first_from_all_tables_and_by_project,
    the_row_of_a_dead_process_becomes_interrupted_and_others_do_not,
    several_processes_open_and_write_at_the_same_time,
    whole_rows_are_written_all_or_none,
    long_and_odd_texts_come_back_as_they_were,
    projects_and_hosts_are_told_apart_byte_by_byte,
    drills_are_counted,
);

fn a_row_is_there_while_the_work_runs_and_complete_afterwards(place: &Place) {
    let log = place.open();
    let id = log.begin_backup(&start("shop", 0)).unwrap();
    let rows = place.open().logs(Some("shop"), 10).unwrap();
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

fn rows_come_newest_first_from_all_tables_and_by_project(place: &Place) {
    let log = place.open();
    log.end(log.begin_backup(&start("shop", 1)).unwrap(), &end("ok", 1)).unwrap();
    log.end(log.begin_test(&start("shop", 3)).unwrap(), &end("failed", 3)).unwrap();
    log.end(log.begin_restore(&start("blog", 2)).unwrap(), &end("partial", 2)).unwrap();
    let kinds = |rows: Vec<LogRow>| rows.into_iter().map(|row| row.kind).collect::<Vec<_>>();
    assert_eq!(kinds(log.logs(None, 10).unwrap()), ["test", "restore", "backup"]);
    assert_eq!(kinds(log.logs(Some("shop"), 10).unwrap()), ["test", "backup"]);
    assert_eq!(kinds(log.logs(None, 1).unwrap()), ["test"]);
}

fn the_row_of_a_dead_process_becomes_interrupted_and_others_do_not(place: &Place) {
    let log = place.open();
    let dead = log.begin_backup(&start("shop", 0)).unwrap();
    let alive = log.begin_backup(&start("shop", 1)).unwrap();
    log.execute("UPDATE backup_logs SET process_key = 'another life' WHERE id = ?", args![&dead.id]).unwrap();
    log.close();

    let log = place.open();
    let rows = log.logs(None, 10).unwrap();
    assert_eq!(rows.iter().map(|row| row.status.as_str()).collect::<Vec<_>>(), ["running", "interrupted"]);
    assert!(rows[1].message.contains("killed"), "{}", rows[1].message);
    log.end(alive, &end("ok", 2)).unwrap();
    assert_eq!(log.logs(None, 1).unwrap()[0].status, "ok");
}

/// Among them the tables are made once, by whoever comes first.
fn several_processes_open_and_write_at_the_same_time(place: &Place) {
    let url = &place.url;
    std::thread::scope(|scope| {
        for writer in 0..4 {
            scope.spawn(move || {
                let log = AuditLog::open(url, "here").unwrap();
                for second in 0..10 {
                    log.end(log.begin_backup(&start(&format!("p{writer}"), second)).unwrap(), &end("ok", second)).unwrap();
                }
            });
        }
    });
    assert_eq!(place.open().logs(None, 1000).unwrap().len(), 40);
}

fn whole_rows_are_written_all_or_none(place: &Place) {
    let log = place.open();
    log.add_whole(&[(start("shop", 1), end("ok", 2)), (start("shop", 3), end("partial", 4))]).unwrap();
    let told = |log: &AuditLog| log.logs(None, 10).unwrap().into_iter().map(|row| row.status).collect::<Vec<_>>();
    assert_eq!(told(&log), ["partial", "ok"]);
    let failed = log.transaction(|transaction| {
        transaction.execute("DELETE FROM backup_logs WHERE status = ?", args!["ok"])?;
        transaction.execute("DELETE FROM no_such_table", args![])
    });
    assert!(failed.is_err());
    assert_eq!(told(&log), ["partial", "ok"], "what came before the failure is undone, and the connection is of use");
}

fn long_and_odd_texts_come_back_as_they_were(place: &Place) {
    let log = place.open();
    let mut end = end("failed", 1);
    end.message = format!("{}日本 🐘 \\ ' \" % ?", "x".repeat(200_000));
    end.details = serde_json::json!({ "torn": vec!["é\u{0}"; 20_000] });
    log.end(log.begin_backup(&start("shop", 0)).unwrap(), &end).unwrap();
    let row = log.logs(None, 1).unwrap().remove(0);
    assert_eq!((row.message, row.details), (end.message.clone(), end.details.clone()));
    end.message = "before\0after".to_owned();
    log.end(log.begin_backup(&start("shop", 2)).unwrap(), &end).unwrap();
    let told = log.logs(None, 1).unwrap().remove(0).message;
    assert!(told.starts_with("before") && told.ends_with("after"), "{told:?}");
}

fn projects_and_hosts_are_told_apart_byte_by_byte(place: &Place) {
    let log = place.open();
    for project in ["shop", "Shop", "shóp", "shop "] {
        log.end(log.begin_backup(&start(project, 0)).unwrap(), &end("ok", 1)).unwrap();
        assert_eq!(log.logs(Some(project), 10).unwrap().len(), 1, "{project:?}");
    }
    assert_eq!(place.open_as("HERE").tests("shop", "run", 10).unwrap().len(), 0);
}

fn drills_are_counted(place: &Place) {
    let log = place.open();
    assert_eq!((log.count_tests("shop", "run", "x").unwrap(), log.first_commit("shop").unwrap()), (0, None));
    log.end(log.begin_test(&start("shop", 1)).unwrap(), &end("ok", 1)).unwrap();
    log.end(log.begin_test(&start("shop", 2)).unwrap(), &end("ok", 2)).unwrap();
    log.end(log.begin_backup(&start("shop", 3)).unwrap(), &end("ok", 4)).unwrap();
    assert_eq!((log.count_tests("shop", "run", "x").unwrap(), log.count_tests("shop", "run", "").unwrap()), (2, 0));
    assert_eq!(log.tests("shop", "run", 10).unwrap().len(), 2);
    assert_eq!(log.first_commit("shop").unwrap().as_deref(), Some("2023-11-14T22:13:23.000000Z"));
}
