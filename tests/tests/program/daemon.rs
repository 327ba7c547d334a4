//! The daemon as a process: signals, systemd, cron, one failure among many, and what it says where it cannot begin.

use havun_tests::{Called, Machine};
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

/// Longer than any machine takes; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(120);

/// A daemon, with the ear of a service manager.
struct Daemon {
    child: Child,
    ear: UnixDatagram,
    /// What was heard and not asked for yet.
    heard: Vec<String>,
    stderr: Option<std::thread::JoinHandle<String>>,
}

impl Daemon {
    fn start(machine: &Machine, arguments: &[&str]) -> Self {
        Self::spawn(machine, machine.command(arguments))
    }

    fn spawn(machine: &Machine, mut command: Command) -> Self {
        let socket = machine.at(&format!("notify-{}", fs::read_dir(machine.path()).unwrap().count()));
        let ear = UnixDatagram::bind(&socket).unwrap();
        ear.set_read_timeout(Some(PATIENCE)).unwrap();
        command.arg("daemon").env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", "600000").env_remove("WATCHDOG_PID");
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut pipe = child.stderr.take().unwrap();
        let stderr = std::thread::spawn(move || {
            let mut text = String::new();
            pipe.read_to_string(&mut text).unwrap();
            text
        });
        Self { child, ear, heard: Vec::new(), stderr: Some(stderr) }
    }

    fn hear(&mut self) -> String {
        if self.heard.is_empty() {
            let mut buffer = [0; 4096];
            let length = self.ear.recv(&mut buffer).expect("the daemon says something");
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            self.heard.extend(text.lines().map(str::to_owned));
        }
        self.heard.remove(0)
    }

    /// Listens until `wanted` is said; what was said before.
    fn hear_until(&mut self, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let mut before = Vec::new();
        loop {
            let line = self.hear();
            if wanted(&line) {
                before.push(line);
                return before;
            }
            before.push(line);
        }
    }

    /// Until it is idle and `project` comes next.
    fn until_next_is(&mut self, project: &str) -> Vec<String> {
        let status = format!("STATUS=next {project} at ");
        self.hear_until(|line| line.starts_with(&status))
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").arg(format!("-{signal}")).arg(self.child.id().to_string()).status().unwrap();
        assert!(sent.success());
    }

    /// Its exit status and what it said.
    fn ended(mut self) -> Called {
        let status = self.child.wait().unwrap().code().unwrap_or(-1);
        Called { status, stdout: String::new(), stderr: self.stderr.take().unwrap().join().unwrap() }
    }

    fn stop(self) -> Called {
        self.signal("TERM");
        self.ended().ended(0)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A project whose run waits in its middle until somebody writes into `hold`; it has said so in `begun` before.
fn held_project(machine: &mut Machine) -> PathBuf {
    for pipe in ["begun", "hold"] {
        assert!(Command::new("mkfifo").arg(machine.at(pipe)).status().unwrap().success());
    }
    let wait = format!("echo . > {}; read line < {}", machine.at("begun").display(), machine.at("hold").display());
    let quiesce = format!("schedule = \"daily 03:00\"\n[projects.shop.quiesce]\nbefore = [\"sh\", \"-c\", \"{wait}\"]\ntimeout = 600");
    let root = machine.project("shop", "files", &quiesce);
    fs::write(root.join("a"), "1").unwrap();
    root
}

fn wait_for_the_middle(machine: &Machine) {
    let mut line = String::new();
    BufReader::new(fs::File::open(machine.at("begun")).unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, ".\n");
}

fn let_go_on(machine: &Machine) {
    writeln!(fs::OpenOptions::new().write(true).open(machine.at("hold")).unwrap(), "go").unwrap();
}

fn plain_project(machine: &mut Machine, name: &str, more: &str) -> PathBuf {
    let root = machine.project(name, "files", &format!("schedule = \"daily 03:00\"\n{more}"));
    fs::write(root.join("a"), name).unwrap();
    root
}

/// How the runs of a project ended, the oldest first.
fn runs(machine: &Machine, project: &str) -> Vec<String> {
    let logs = machine.json(&["logs", "--project", project, "--limit", "100"]).ended(0).json();
    let rows = logs["rows"].as_array().or_else(|| logs["logs"].as_array()).unwrap_or_else(|| panic!("{logs}"));
    let of_runs = rows.iter().filter(|row| row["action"] == "run");
    of_runs.rev().map(|row| row["status"].as_str().unwrap().to_owned()).collect()
}

fn open_alerts(machine: &Machine) -> Vec<(String, String)> {
    let alerts = machine.json(&["logs", "--alerts"]).json();
    let rows = alerts["alerts"].as_array().unwrap_or_else(|| panic!("{alerts}"));
    let open = rows.iter().filter(|row| row.get("resolved_at").is_none_or(serde_json::Value::is_null));
    open.map(|row| (row["project"].as_str().unwrap().to_owned(), row["kind"].as_str().unwrap().to_owned())).collect()
}

fn replace_in_config(machine: &Machine, from: &str, to: &str) {
    let text = fs::read_to_string(machine.at("havun-backup.toml")).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(machine.at("havun-backup.toml"), text.replacen(from, to, 1)).unwrap();
}

#[test]
fn what_is_due_is_backed_up_once_and_a_restart_repeats_nothing() {
    let mut machine = Machine::new();
    plain_project(&mut machine, "shop", "");
    let mut daemon = Daemon::start(&machine, &[]);
    daemon.hear_until(|line| line == "READY=1");
    let said = daemon.until_next_is("shop");
    assert!(said.iter().any(|line| line == "WATCHDOG=1"), "{said:?}");
    assert!(said.iter().any(|line| line.contains("run of shop")), "{said:?}");
    assert_eq!(runs(&machine, "shop"), ["ok"]);
    let status = machine.call(&["status"]).ended(0).stdout;
    assert!(status.contains("daemon") && status.contains("works since") && status.contains("next run"), "{status}");
    daemon.signal("TERM");
    daemon.hear_until(|line| line == "STOPPING=1");
    daemon.ended().ended(0);
    assert!(machine.call(&["status"]).ended(0).stdout.contains("stopped"), "status says that it has stopped");

    let mut again = Daemon::start(&machine, &[]);
    let said = again.until_next_is("shop");
    assert!(!said.iter().any(|line| line.contains("run of shop")), "{said:?}");
    again.stop();
    assert_eq!(runs(&machine, "shop"), ["ok"]);
}

#[test]
fn a_second_daemon_ends_with_11_and_leaves_the_first_alone() {
    let machine = Machine::new();
    let mut daemon = Daemon::start(&machine, &[]);
    daemon.hear_until(|line| line == "READY=1");
    for arguments in [&["daemon"][..], &["daemon", "--once"]] {
        let second = machine.call(arguments).ended(11);
        assert!(second.stderr.contains("another daemon works with") && second.stderr.contains("process "), "{}", second.stderr);
    }
    daemon.stop();
    machine.call(&["daemon", "--once"]).ended(0);
}

#[test]
fn sigterm_in_the_middle_of_a_run_stops_in_order_and_the_next_start_catches_up() {
    let mut machine = Machine::new();
    held_project(&mut machine);
    let daemon = Daemon::start(&machine, &[]);
    wait_for_the_middle(&machine);
    daemon.stop();
    assert_eq!(runs(&machine, "shop"), ["cancelled"]);
    assert!(open_alerts(&machine).is_empty(), "who stops it needs no alert");

    let mut again = Daemon::start(&machine, &[]);
    wait_for_the_middle(&machine);
    let_go_on(&machine);
    again.until_next_is("shop");
    again.stop();
    assert_eq!(runs(&machine, "shop"), ["cancelled", "ok"]);
}

#[test]
fn kill_9_in_the_middle_of_a_run_is_caught_up_by_the_next_start() {
    let mut machine = Machine::new();
    held_project(&mut machine);
    let mut daemon = Daemon::start(&machine, &[]);
    wait_for_the_middle(&machine);
    daemon.child.kill().unwrap();
    daemon.child.wait().unwrap();
    let_go_on(&machine);

    let mut again = Daemon::start(&machine, &[]);
    wait_for_the_middle(&machine);
    let_go_on(&machine);
    again.until_next_is("shop");
    again.stop();
    assert_eq!(runs(&machine, "shop"), ["interrupted", "ok"]);
    machine.call(&["verify"]).ended(0);
}

#[test]
fn sighup_takes_a_good_configuration_and_refuses_a_wrong_one_with_an_alert() {
    let mut machine = Machine::new();
    plain_project(&mut machine, "shop", "");
    let mut daemon = Daemon::start(&machine, &[]);
    daemon.until_next_is("shop");

    let good = fs::read_to_string(machine.at("havun-backup.toml")).unwrap();
    fs::write(machine.at("havun-backup.toml"), good.replace("daily 03:00", "daily 25:00")).unwrap();
    daemon.signal("HUP");
    daemon.hear_until(|line| line == "RELOADING=1");
    daemon.hear_until(|line| line == "READY=1");
    daemon.hear_until(|line| line == "WATCHDOG=1");

    fs::write(machine.at("havun-backup.toml"), &good).unwrap();
    let alerted = || open_alerts(&machine).contains(&(String::new(), "config".to_owned()));
    while !alerted() {
        daemon.hear();
    }
    plain_project(&mut machine, "blog", "");
    daemon.signal("HUP");
    daemon.hear_until(|line| line.contains("run of blog"));
    daemon.hear_until(|line| line.starts_with("STATUS=next "));
    while open_alerts(&machine).contains(&(String::new(), "config".to_owned())) {
        daemon.hear();
    }
    let said = daemon.stop().stderr;
    assert!(said.contains("the configuration stays as it was") && said.contains("daily 25:00"), "{said}");
    assert_eq!((runs(&machine, "shop"), runs(&machine, "blog")), (vec!["ok".to_owned()], vec!["ok".to_owned()]));
}

/// Five projects of which the third has lost its folder.
fn five(machine: &mut Machine) {
    for name in ["a", "b", "c", "d", "e"] {
        plain_project(machine, name, "");
    }
    fs::remove_dir_all(machine.at("projects/c")).unwrap();
}

fn four_are_done_and_one_is_an_alert(machine: &Machine) {
    for name in ["a", "b", "d", "e"] {
        assert_eq!(runs(machine, name), ["ok"], "{name}");
    }
    assert_eq!(runs(machine, "c"), ["failed"]);
    assert_eq!(open_alerts(machine), [("c".to_owned(), "run".to_owned())]);
}

#[test]
fn one_project_of_five_fails_in_a_run() {
    let mut machine = Machine::new();
    five(&mut machine);
    machine.call(&["run"]).ended(3);
    four_are_done_and_one_is_an_alert(&machine);
}

#[test]
fn one_project_of_five_fails_where_cron_calls() {
    let mut machine = Machine::new();
    five(&mut machine);
    machine.call(&["daemon", "--once"]).ended(3);
    four_are_done_and_one_is_an_alert(&machine);
    // Its pause is not over: the next call a moment later tries nothing.
    assert!(machine.call(&["daemon", "--once"]).ended(0).stdout.contains("Nothing is due"));
    let due = machine.json(&["run", "--due"]).ended(0).json();
    let outcomes: Vec<_> = due["projects"].as_array().unwrap().iter().map(|project| project["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["not-due"; 5], "{due}");
}

#[test]
fn one_project_of_five_fails_in_the_daemon() {
    let mut machine = Machine::new();
    five(&mut machine);
    let mut daemon = Daemon::start(&machine, &[]);
    daemon.until_next_is("c");
    daemon.stop();
    four_are_done_and_one_is_an_alert(&machine);
}

#[test]
fn a_failure_that_needs_a_person_is_not_tried_again_before_the_configuration_changes() {
    let mut machine = Machine::new();
    plain_project(&mut machine, "shop", "");
    machine.call(&["daemon", "--once"]).ended(0);
    machine.change_key();
    faked(&machine, "+25h", &["run", "--due"]).ended(12);
    let later = faked(&machine, "+27h", &["--json", "run", "--due"]).ended(0).json();
    assert_eq!(later["projects"][0]["outcome"], "not-due", "a wrong key stays wrong");
    faked(&machine, "+49h", &["run", "--due"]).ended(12);
}

/// Calls the program with a clock that is ahead; the steady clock is not.
fn faked(machine: &Machine, ahead: &str, arguments: &[&str]) -> Called {
    let real = machine.command(arguments);
    let mut command = Command::new("faketime");
    command.args(["-f", ahead]).arg(real.get_program()).args(real.get_args()).current_dir(machine.path());
    Called::of(command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").output().unwrap())
}

#[test]
fn missed_moments_are_caught_up_once_and_a_leap_of_the_clock_is_an_alert_until_it_is_settled() {
    let mut machine = Machine::new();
    plain_project(&mut machine, "shop", "");
    machine.call(&["daemon", "--once"]).ended(0);
    faked(&machine, "+73h", &["daemon", "--once"]).ended(0);
    assert_eq!(runs(&machine, "shop"), ["ok", "ok"], "three moments were missed");
    assert_eq!(open_alerts(&machine), [(String::new(), "clock".to_owned())]);
    faked(&machine, "+73h", &["daemon", "--once"]).ended(0);
    assert_eq!(runs(&machine, "shop"), ["ok", "ok"]);
    // Back: what ran in that future serves no moment of today, but today's own run did.
    machine.call(&["daemon", "--once"]).ended(0);
    assert_eq!(runs(&machine, "shop"), ["ok", "ok"]);
    faked(&machine, "+25h", &["daemon", "--once"]).ended(0);
    assert_eq!(runs(&machine, "shop").len(), 3, "tomorrow has a run of its own");
}

#[test]
fn metrics_and_liveness_are_answered_and_nobody_who_asks_badly_is_in_the_way() {
    let mut machine = Machine::new();
    plain_project(&mut machine, "shop", "");
    machine.section("[daemon]\nmetrics = \"127.0.0.1:0\"");
    let socket = machine.at("notify");
    let ear = UnixDatagram::bind(&socket).unwrap();
    ear.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut command = machine.command(&["--log-format", "json", "daemon"]);
    let mut child = command.env("NOTIFY_SOCKET", &socket).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let port = loop {
        let mut line = String::new();
        log.read_line(&mut line).unwrap();
        let line: serde_json::Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        if let Some(address) = line["address"].as_str() {
            break address.rsplit(':').next().unwrap().parse::<u16>().unwrap();
        }
    };
    let drain = std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()).unwrap());
    let mut daemon = Daemon { child, ear, heard: Vec::new(), stderr: None };
    daemon.until_next_is("shop");

    // Sixteen at most are heard at once; these say nothing, or nonsense, and are let go.
    let mut silent: Vec<TcpStream> = (0..8).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
    let _ = silent[0].write_all(&vec![b'x'; 100_000]);
    let metrics = asked(port, "GET /metrics HTTP/1.1");
    assert!(metrics.starts_with("HTTP/1.1 200") && metrics.contains("text/plain; version=0.0.4"), "{metrics}");
    assert!(metrics.contains("havun_backup_daemon_runs_total{project=\"shop\",outcome=\"ok\"} 1"), "{metrics}");
    assert!(asked(port, "GET /healthz HTTP/1.1").ends_with("\r\n\r\nok\n"));
    assert!(asked(port, "GET /../etc/passwd HTTP/1.1").starts_with("HTTP/1.1 404"));
    assert!(asked(port, "POST /metrics HTTP/1.1").starts_with("HTTP/1.1 405"));
    assert!(asked(port, &format!("GET /{} HTTP/1.1", "x".repeat(20_000))).starts_with("HTTP/1.1 4"));
    drop(silent);
    daemon.signal("TERM");
    assert_eq!(daemon.child.wait().unwrap().code(), Some(0));
    drain.join().unwrap();
}

fn asked(port: u16, request: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let _ = write!(stream, "{request}\r\nHost: localhost\r\n\r\n");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn no_terminal_escape_of_a_file_name_reaches_the_log() {
    for format in ["text", "json"] {
        let mut machine = Machine::new();
        let root = machine.project("shop", "files", "schedule = \"daily 03:00\"");
        replace_in_config(&machine, root.to_str().unwrap(), "/nowhere/\\u001b]0;owned\\u0007\\u001b[31mred\\u009b2J");
        let mut daemon = Daemon::start(&machine, &["--log-format", format]);
        daemon.until_next_is("shop");
        let said = daemon.stop().stderr;
        assert!(said.contains("nowhere") && said.contains("31mred"), "{said:?}");
        assert!(!said.contains(['\u{1b}', '\u{7}', '\u{9b}']), "{said:?}");
    }
}

#[test]
fn a_configuration_that_cannot_be_used_is_told_with_its_lines_and_ends_with_78() {
    for (from, to, told) in [
        ("daily 03:00", "0 0 31 2 *", "no month has such a day"),
        ("Europe/Amsterdam", "Europe/Atlantis", "`Europe/Atlantis` is not a time zone"),
        ("[projects.shop]", "[projects.shop]\nstrategy = \"files\"\nroot = \"/\"\nstores = [\"local\"]\n[projects.shop]", "duplicate key"),
        ("[keys]", "[daemon]\njitter = \"soon\"\nparallel = 0\nmetrics = \"9105\"\n[keys]", "`soon` is not a span of time"),
    ] {
        let mut machine = Machine::new();
        plain_project(&mut machine, "shop", "");
        replace_in_config(&machine, from, to);
        for arguments in [&["daemon"][..], &["config", "--check"]] {
            let ended = machine.call(arguments).ended(78);
            assert!(ended.stderr.contains(told), "{to}: {}", ended.stderr);
            assert!(ended.stderr.contains("havun-backup.toml:"), "with its line: {}", ended.stderr);
        }
    }
}

#[test]
fn the_units_that_init_writes_are_good_ones() {
    let mut machine = Machine::new();
    machine.project("shop", "files", "schedule = \"daily 03:00\"");
    replace_in_config(&machine, "identity = { file = \"service.agekey\" }", "identity = { credential = \"havun.agekey\" }");
    let folder = machine.at("units");
    fs::create_dir(&folder).unwrap();
    let folder_text = folder.to_str().unwrap();
    let shown = machine.call(&["init", "--systemd", folder_text, "--dry-run"]).ended(0).stdout;
    assert!(shown.contains("Type=notify") && fs::read_dir(&folder).unwrap().next().is_none(), "{shown}");
    let told = machine.call(&["init", "--systemd", folder_text]).ended(0).stdout;
    assert!(told.contains("systemctl enable --now havun-backup.service") && told.contains("havun-backup.timer"), "{told}");
    let service = fs::read_to_string(folder.join("havun-backup.service")).unwrap();
    assert!(service.contains("LoadCredential=havun.agekey:/etc/credstore/havun.agekey"), "{service}");
    for path in ["state", "local", "archive"] {
        assert!(service.contains(&format!("ReadWritePaths=-{}", machine.at(path).display())), "{service}");
    }
    for unit in ["havun-backup.service", "havun-backup-once.service", "havun-backup.timer"] {
        verify_unit(&folder.join(unit));
    }
    fs::write(folder.join("havun-backup.timer"), "# mine\n").unwrap();
    let kept = machine.call(&["init", "--systemd", folder_text]).ended(0).text();
    assert!(kept.contains("havun-backup.timer.new") && kept.contains("changed by hand"), "{kept}");
    assert_eq!(fs::read_to_string(folder.join("havun-backup.timer")).unwrap(), "# mine\n");
}

fn verify_unit(path: &Path) {
    let output = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(path).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("havun-backup")).collect();
    assert!(ours.is_empty(), "{ours:#?}");
}

/// All that the unit allows, without systemd: a run, a drill and a clean-up with these capabilities alone.
#[test]
fn the_capabilities_of_the_unit_suffice() {
    let mut machine = Machine::new();
    let root = plain_project(&mut machine, "shop", "");
    let folder = machine.at("units");
    fs::create_dir(&folder).unwrap();
    machine.call(&["init", "--systemd", folder.to_str().unwrap()]).ended(0);
    let service = fs::read_to_string(folder.join("havun-backup.service")).unwrap();
    let line = service.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=")).unwrap();
    let set = line.split(' ').map(|word| format!("+{}", word.trim_start_matches("CAP_").to_lowercase())).collect::<Vec<_>>().join(",");
    // A file of somebody else that nobody else may read.
    let secret = root.join("secret");
    fs::write(&secret, "x").unwrap();
    assert!(Command::new("sh").arg("-c").arg(format!("chown nobody {0} && chmod 400 {0}", secret.display())).status().unwrap().success());
    for arguments in [&["daemon", "--once"][..], &["test"], &["verify", "--read-data"]] {
        let real = machine.command(arguments);
        let mut command = Command::new("setpriv");
        command.args([format!("--bounding-set=-all,{set}"), "--inh-caps=-all".to_owned(), "--no-new-privs".to_owned()]);
        let called = Called::of(command.arg(real.get_program()).args(real.get_args()).current_dir(machine.path()).output().unwrap());
        called.ended(0);
    }
}
