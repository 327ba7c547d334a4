//! One command of the operator's: no shell, a small environment, a time limit for it and all that it starts.

use crate::users::User;
use havun_model::Cancel;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};
use std::{
    io::Read,
    os::unix::process::{CommandExt, ExitStatusExt},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// How much of what a command says is kept, in bytes.
const KEPT: usize = 16 * 1024;
/// How much of it an error shows, in characters.
const SHOWN: usize = 400;
/// How often a running command is looked at.
const TICK: Duration = Duration::from_millis(20);
/// From asking it to end to making it end; and how long output may still come after the end.
const GRACE: Duration = Duration::from_secs(3);
/// Where programs are looked for.
const SEARCH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What is run, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OwnCommand {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Login name; none for whoever runs this program.
    pub user: Option<String>,
    /// Working folder.
    pub folder: PathBuf,
    /// For all of it.
    pub timeout_secs: u16,
}

impl OwnCommand {
    /// As an operator would type it.
    pub fn shown(&self) -> String {
        let user = self.user.as_ref().map(|user| format!(" (as {user})")).unwrap_or_default();
        format!("{}{user}", self.argv.join(" "))
    }

    /// Runs it to its end. What it says is logged.
    ///
    /// # Errors
    /// One line: what went wrong, with the last of what it said.
    pub fn run(&self, cancel: &Cancel) -> Result<(), String> {
        let mut child = self.spawn()?;
        let said = Said::listen(&mut child);
        let ended = self.wait(&mut child, cancel);
        let text = said.text();
        if !text.is_empty() {
            tracing::info!(command = %self.shown(), output = %text, "a command said");
        }
        let tail: String = text.chars().skip(text.chars().count().saturating_sub(SHOWN)).collect();
        let words = if tail.is_empty() { String::new() } else { format!(": {}", tail.replace('\n', " | ")) };
        match ended {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("`{}` ended with {}{words}", self.shown(), status_text(status))),
            Err(why) => Err(format!("`{}` {why}{words}", self.shown())),
        }
    }

    fn spawn(&self) -> Result<Child, String> {
        let (program, arguments) = self.argv.split_first().ok_or("no program is named")?;
        let mut command = Command::new(program);
        command.args(arguments).env_clear().env("PATH", SEARCH).env("LC_ALL", "C.UTF-8").current_dir(&self.folder);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        match &self.user {
            None => drop(std::env::var_os("HOME").map(|home| command.env("HOME", home))),
            Some(name) => {
                let user = User::named(name).map_err(|e| e.to_string())?;
                command.env("HOME", &user.home).env("USER", &user.name).env("LOGNAME", &user.name);
                if rustix::process::geteuid().as_raw() != user.uid {
                    // Supplementary groups go with it.
                    command.uid(user.uid).gid(user.gid);
                }
            }
        }
        command.spawn().map_err(|error| format!("cannot run `{}` in {}: {error}", self.shown(), self.folder.display()))
    }

    fn wait(&self, child: &mut Child, cancel: &Cancel) -> Result<ExitStatus, String> {
        let end = Instant::now() + Duration::from_secs(u64::from(self.timeout_secs));
        loop {
            match child.try_wait() {
                Ok(Some(status)) => return Ok(status),
                Ok(None) if cancel.is_cancelled() => {
                    stop(child);
                    return Err("was stopped by the operator".to_owned());
                }
                Ok(None) if Instant::now() >= end => {
                    stop(child);
                    return Err(format!("did not end within {} seconds and was stopped", self.timeout_secs));
                }
                Ok(None) => thread::sleep(TICK),
                Err(error) => {
                    stop(child);
                    return Err(format!("cannot be waited for: {error}"));
                }
            }
        }
    }
}

/// Ends it and whatever it has started: politely, then not.
fn stop(child: &mut Child) {
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let signal = |signal| group.map(|group| kill_process_group(group, signal));
    let _ = signal(Signal::TERM);
    let end = Instant::now() + GRACE;
    while Instant::now() < end && matches!(child.try_wait(), Ok(None)) {
        thread::sleep(TICK);
    }
    let _ = signal(Signal::KILL);
    let _ = child.kill();
    let _ = child.wait();
}

fn status_text(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}

/// What a command says, bounded.
struct Said {
    kept: Arc<Mutex<Vec<u8>>>,
    listeners: Vec<thread::JoinHandle<()>>,
}

impl Said {
    fn listen(child: &mut Child) -> Self {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let mut listeners = Vec::new();
        let pipes: [Option<Box<dyn Read + Send>>; 2] =
            [child.stdout.take().map(|pipe| Box::new(pipe) as _), child.stderr.take().map(|pipe| Box::new(pipe) as _)];
        for pipe in pipes.into_iter().flatten() {
            let kept = Arc::clone(&kept);
            listeners.push(thread::spawn(move || keep(pipe, &kept)));
        }
        Self { kept, listeners }
    }

    /// What was said: a process that was left behind may keep the pipes open, and is not waited for.
    fn text(self) -> String {
        let end = Instant::now() + GRACE;
        while Instant::now() < end && self.listeners.iter().any(|listener| !listener.is_finished()) {
            thread::sleep(Duration::from_millis(2));
        }
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        plain(&String::from_utf8_lossy(&kept))
    }
}

fn keep(mut pipe: impl Read, kept: &Mutex<Vec<u8>>) {
    let mut piece = [0; 4096];
    while let Ok(count @ 1..) = pipe.read(&mut piece) {
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        let room = KEPT.saturating_sub(kept.len()).min(count);
        kept.extend_from_slice(piece.get(..room).unwrap_or_default());
    }
}

/// Without escape sequences and other control characters.
fn plain(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut chars = text.trim().chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' if chars.next_if_eq(&'[').is_some() => while chars.next_if(|c| !('@'..='~').contains(c)).is_some() {},
            '\n' | '\t' => clean.push(c),
            c if !c.is_control() => clean.push(c),
            _ => continue,
        }
        if c == '\u{1b}' {
            chars.next();
        }
    }
    clean.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, timeout_secs: u16) -> OwnCommand {
        let argv = ["sh", "-c", script].map(str::to_owned).to_vec();
        OwnCommand { argv, user: None, folder: std::env::temp_dir(), timeout_secs }
    }

    #[test]
    fn a_failure_has_its_status_and_its_last_words() {
        assert_eq!(shell("true", 9).run(&Cancel::default()), Ok(()));
        let why = shell("printf 'all \\033[31mred\\033[0m\\n'; echo no >&2; exit 7", 9).run(&Cancel::default()).unwrap_err();
        assert!(why.contains("exit status 7") && why.contains("all red") && why.contains("no") && !why.contains('\u{1b}'), "{why}");
        let missing = OwnCommand { argv: vec!["no-such-program".to_owned()], ..shell("", 9) };
        assert!(missing.run(&Cancel::default()).unwrap_err().contains("no-such-program"));
    }

    #[test]
    fn what_does_not_end_is_stopped_with_what_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let pid = folder.path().join("pid");
        let why = shell(&format!("sleep 600 & echo $! > {}; wait", pid.display()), 1).run(&Cancel::default()).unwrap_err();
        assert!(why.contains("did not end within 1 seconds"), "{why}");
        let pid = std::fs::read_to_string(pid).unwrap();
        let gone = || !std::path::Path::new(&format!("/proc/{}", pid.trim())).exists() || is_zombie(pid.trim());
        let end = Instant::now() + Duration::from_secs(20);
        while !gone() && Instant::now() < end {
            thread::yield_now();
        }
        assert!(gone(), "the child of the command still runs");
    }

    fn is_zombie(pid: &str) -> bool {
        std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
    }

    #[test]
    fn nothing_of_our_environment_is_handed_on() {
        let why = shell("env | cut -d= -f1 | sort | tr '\\n' ' '; exit 1", 9).run(&Cancel::default()).unwrap_err();
        assert!(!why.contains("CARGO"), "{why}");
        assert!(why.contains("PATH") && why.contains("LC_ALL"), "{why}");
    }

    #[test]
    fn output_is_bounded() {
        let why = shell("yes | head -c 1000000; exit 1", 30).run(&Cancel::default()).unwrap_err();
        assert!(why.len() < 4 * SHOWN, "{}", why.len());
    }
}
