//! Two machines that share an audit database: no project is run twice.

use havun_tests::{Called, Machine, PostgreSql};
use std::{
    fs::{self, File},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

/// A moment that the tests do not meet: whatever runs now is of the slot before it.
const YEARLY: &str = "schedule = \"0 0 1 1 *\"";

/// A database of its own, and machines that have it in common.
struct Shared {
    server: Arc<PostgreSql>,
    name: String,
}

impl Shared {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let server = PostgreSql::shared();
        let name = format!("shared_audit_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        server.sql("postgres", &format!("CREATE ROLE {name} LOGIN PASSWORD 'p@ss/word'"));
        server.sql("postgres", &format!("CREATE DATABASE {name} OWNER {name}"));
        Self { server, name }
    }

    /// A machine of this name with one project that has a file; `more` is further TOML of the project.
    fn machine(&self, host: &str, more: &str) -> Machine {
        let mut machine = Machine::new();
        let root = machine.project("shop", "files", more);
        fs::write(root.join("a"), "1").unwrap();
        fs::write(machine.at("password"), "p@ss/word\n").unwrap();
        Command::new("chmod").arg("600").arg(machine.at("password")).status().unwrap();
        machine.section(&format!(
            "[audit]\nurl = \"postgres://{name}@127.0.0.1:{port}/{name}\"\npassword = {{ file = \"password\" }}\nlease = \"2s\"",
            name = self.name,
            port = self.server.port()
        ));
        let config = fs::read_to_string(machine.at("havun-backup.toml")).unwrap();
        fs::write(machine.at("havun-backup.toml"), config.replace("TestHost", host)).unwrap();
        machine
    }

    /// What a query of the database answers, without the last line break.
    fn sql(&self, query: &str) -> String {
        self.server.sql(&self.name, query).trim_end().to_owned()
    }
}

/// A project that rests in the middle of a run until somebody lets it go on.
const WAITS: &str = "schedule = \"0 0 1 1 *\"\n[projects.shop.quiesce]\n\
                     before = [\"sh\", \"-c\", \"mkfifo ../go; touch ../waits; cat ../go\"]\nafter = [\"true\"]\n";

fn run_in_the_middle(machine: &Machine) -> Child {
    let run = machine.command(&["run", "--due"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until("the run waits", || machine.at("projects/waits").exists());
    run
}

/// Lets whatever waits there go on; to open a pipe for both waits for nobody.
fn let_go(machine: &Machine) {
    drop(File::options().read(true).write(true).open(machine.at("projects/go")).unwrap());
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < deadline, "{what}: not within a minute");
        std::thread::yield_now();
    }
}

fn snapshots(machine: &Machine) -> usize {
    let list = machine.json(&["list"]).ended(0).json();
    list["projects"][0]["stores"][0]["snapshots"].as_array().map_or(0, Vec::len)
}

#[test]
fn a_moment_of_the_schedule_is_served_by_one_of_two_hosts() {
    let shared = Shared::new();
    let (a, b) = (shared.machine("a", YEARLY), shared.machine("b", YEARLY));
    let begin = |machine: &Machine| machine.command(&["run", "--due"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let runs: Vec<Child> = [&a, &b, &a, &b].into_iter().map(begin).collect();
    for run in runs {
        Called::of(run.wait_with_output().unwrap()).ended(0);
    }
    for machine in [&a, &b] {
        machine.call(&["run", "--due"]).ended(0);
    }
    assert_eq!(snapshots(&a) + snapshots(&b), 1);
    assert_eq!(shared.sql("SELECT COUNT(*) FROM backup_logs WHERE action = 'run'"), "1");
    let idle = if snapshots(&a) == 0 { &a } else { &b };
    let report = idle.json(&["run", "--due"]).ended(0).json();
    assert_eq!(report["projects"][0]["outcome"], "not-due");
    idle.call(&["run"]).ended(0);
    assert_eq!(snapshots(idle), 1, "whoever asks for a run gets one");
}

#[test]
fn a_host_that_is_killed_in_the_middle_is_followed_by_the_other_one() {
    let shared = Shared::new();
    let (a, b) = (shared.machine("a", WAITS), shared.machine("b", YEARLY));
    let mut killed = run_in_the_middle(&a);
    assert_eq!(shared.sql("SELECT host || held FROM run_leases"), "a1");
    let refused = b.call(&["run"]).ended(11).text();
    assert!(refused.contains("is being backed up by host `a`") && refused.contains("--force"), "{refused}");
    b.call(&["run", "--due"]).ended(0);
    assert_eq!(snapshots(&b), 0);

    killed.kill().unwrap();
    killed.wait().unwrap();
    let_go(&a);
    until("the lease expires", || {
        b.call(&["run", "--due"]).ended(0);
        snapshots(&b) == 1
    });
    a.call(&["run", "--due"]).ended(0);
    b.call(&["run", "--due"]).ended(0);
    assert_eq!((snapshots(&a), snapshots(&b)), (0, 1));
    let rows = "SELECT host || ' ' || status FROM backup_logs WHERE action = 'run' ORDER BY started_at";
    assert_eq!(shared.sql(rows), "a interrupted\nb ok");
    let alerts = b.json(&["logs", "--alerts"]).ended(0).text();
    assert!(alerts.contains("host `a` ended in the middle of a run of `shop`") && alerts.contains("resolved_at"), "{alerts}");
}

#[test]
fn a_host_that_wakes_up_after_its_lease_was_taken_commits_nothing() {
    let shared = Shared::new();
    let (a, b) = (shared.machine("a", WAITS), shared.machine("b", YEARLY));
    let asleep = run_in_the_middle(&a);
    let signal = |name: &str| assert!(Command::new("kill").args([name, &asleep.id().to_string()]).status().unwrap().success());
    signal("-STOP");
    until("the lease expires", || {
        b.call(&["run", "--due"]).ended(0);
        snapshots(&b) == 1
    });
    let_go(&a);
    signal("-CONT");
    let woken = Called::of(asleep.wait_with_output().unwrap()).ended(11).text();
    assert!(woken.contains("the lease of project `shop` was taken over meanwhile by"), "{woken}");
    assert_eq!((snapshots(&a), snapshots(&b)), (0, 1));
}
