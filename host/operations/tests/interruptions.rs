//! What must be undone, or done all the same, when a run panics and when the operator stops a restore.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test stops at the first surprise")]

use havun_model::Cancel;
use havun_operations::{
    config::Config,
    context::{Context, Observer},
    erasures,
    restore::{self, RestoreOptions},
    run::{RunOptions, RunOutcome, run},
};
use havun_plugin_runtime::{Limits, Runtime, RuntimeConfig};
use havun_tests::Machine;
use rusqlite::Connection;
use std::{fs, path::PathBuf, sync::Arc};

/// Does something when a step begins.
struct When<F>(&'static str, F);

impl<F: Fn() + Send + Sync> Observer for When<F> {
    fn step(&self, text: &str) {
        if text == self.0 {
            (self.1)();
        }
    }
}

fn context(machine: &Machine, cancel: Cancel, observer: Arc<dyn Observer>) -> Context {
    let config = Config::load(&machine.at("havun-backup.toml")).unwrap();
    let runtime = RuntimeConfig { cache_dir: machine.at("strategies"), compiler: PathBuf::new(), limits: Limits::default() };
    Context::new(config, cancel, observer).with_runtime(Runtime::compiling_in_process(runtime))
}

/// The application is let go on while the panic unwinds, and nothing is left for a later run to undo.
#[test]
fn a_run_that_panics_lets_the_application_go_on() {
    let mut machine = Machine::new();
    let log = machine.at("log");
    let say = |word: &str| format!("[\"sh\", \"-c\", \"echo {word} >> {}\"]", log.display());
    let hooks = format!("[projects.shop.quiesce]\nbefore = {}\nafter = {}\n", say("before"), say("after"));
    let root = machine.project("shop", "files", &hooks);
    fs::write(root.join("a"), "1").unwrap();
    let cx = context(&machine, Cancel::default(), Arc::new(When("files", || panic!("in the middle of the run"))));
    let report = run(&cx, &RunOptions::default()).unwrap();
    assert_eq!(report.projects[0].outcome, RunOutcome::Failed, "{report:?}");
    assert!(format!("{:?}", report.projects[0].failure).contains("in the middle of the run"), "{report:?}");
    assert_eq!(fs::read_to_string(&log).unwrap(), "before\nafter\n");
    assert_eq!(fs::read_dir(machine.at("state/pauses")).unwrap().count(), 0);
    // The next run finds nothing that would hold it up.
    let cx = context(&machine, Cancel::default(), Arc::new(When("", || {})));
    let report = run(&cx, &RunOptions::default()).unwrap();
    assert_eq!(report.projects[0].outcome, RunOutcome::Ok, "{report:?}");
}

fn names(path: &std::path::Path) -> Vec<String> {
    let database = Connection::open(path).unwrap();
    let mut statement = database.prepare("SELECT name FROM users ORDER BY id").unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

/// Two databases; the operator stops the restore when the second begins. The first has been put in place by then.
#[test]
fn whoever_was_erased_does_not_come_back_with_a_restore_that_was_stopped() {
    let mut machine = Machine::new();
    let settings = "[projects.shop.databases.a]\nengine = \"sqlite\"\npath = \"a.db\"\n\
         [projects.shop.databases.b]\nengine = \"sqlite\"\npath = \"b.db\"\n\
         [projects.shop.settings]\nexclude = [\"*.db*\"]\nerasure = [{ item = \"database-a\", table = \"users\", column = \"email\" }, \
         { item = \"database-b\", table = \"users\", column = \"email\" }]\n";
    let root = machine.project("shop", "files", settings);
    for name in ["a.db", "b.db"] {
        let database = Connection::open(root.join(name)).unwrap();
        let fill = "CREATE TABLE users (id INTEGER PRIMARY KEY, email TEXT, name TEXT);
                    INSERT INTO users VALUES (1, 'jan@example.org', 'Jan'), (2, 'piet@example.org', 'Piet');";
        database.execute_batch(fill).unwrap();
    }
    let cx = context(&machine, Cancel::default(), Arc::new(When("", || {})));
    let report = run(&cx, &RunOptions::default()).unwrap();
    assert_eq!(report.projects[0].outcome, RunOutcome::Ok, "{report:?}");
    let subject = erasures::hash("jan@example.org", false).unwrap();
    erasures::add(&cx, "shop", &subject.to_string(), "request 17").unwrap();
    for name in ["a.db", "b.db"] {
        Connection::open(root.join(name)).unwrap().execute_batch("DELETE FROM users; INSERT INTO users VALUES (9, 'x', 'Nobody')").unwrap();
    }
    drop(cx);
    let cancel = Cancel::default();
    let stop = cancel.clone();
    let cx = context(&machine, cancel, Arc::new(When("database `database-b`", move || stop.cancel())));
    let options = RestoreOptions { project: "shop".to_owned(), replace: true, ..RestoreOptions::default() };
    let outcome = restore::prepare(&cx, &options).unwrap().execute().unwrap();
    assert!(outcome.interrupted, "{outcome:?}");
    assert_eq!((names(&root.join("a.db")), names(&root.join("b.db"))), (vec!["Piet".to_owned()], vec!["Nobody".to_owned()]), "{outcome:?}");
}
