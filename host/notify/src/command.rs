//! A program of the operator's own: the message as JSON on its standard input, no shell, no environment.
//!
//! It runs in a process group of its own, which is killed when it takes too long.

use crate::{Channel, Message, SendError, veil::Veil};
use rustix::process::{Pid, Signal, kill_process_group};
use std::{
    io::{Read as _, Write as _},
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

/// How much of what it says on its standard error is kept, in bytes.
const LONGEST_COMPLAINT: u64 = 4096;
/// How long the last of that is waited for.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Where programs are looked for: nothing of our own environment is handed on.
const SEARCHED: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandSettings {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// How long it may take.
    pub timeout: Duration,
}

/// A program of the operator's own.
pub struct CommandChannel {
    program: String,
    arguments: Vec<String>,
    timeout: Duration,
}

impl CommandChannel {
    /// # Errors
    /// [`SendError::Setting`] when there is no program.
    pub fn new(settings: CommandSettings) -> Result<Self, SendError> {
        let mut argv = settings.argv.into_iter();
        let program = argv.next().filter(|program| !program.is_empty());
        let program = program.ok_or_else(|| SendError::Setting { setting: "argv", why: "names no program".to_owned() })?;
        Ok(Self { program, arguments: argv.collect(), timeout: settings.timeout })
    }

    fn spawn(&self) -> Result<Child, SendError> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).env_clear().env("PATH", SEARCHED).env("LC_ALL", "C.UTF-8").current_dir("/").process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        command.spawn().map_err(|source| SendError::Spawn { program: self.program.clone(), source })
    }

    fn complain(&self, status: String, complaint: &[u8]) -> SendError {
        let complaint = Veil::default().clean(&String::from_utf8_lossy(complaint));
        SendError::Command { program: self.program.clone(), status, complaint }
    }
}

impl Channel for CommandChannel {
    fn send(&self, message: &Message) -> Result<(), SendError> {
        let mut child = self.spawn()?;
        let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
        let body = message.to_json().to_string();
        let (ended, end) = mpsc::channel();
        // Each pipe has a thread of its own: a program may fill one while we wait at the other.
        thread::spawn(move || stdin.map(|mut pipe| pipe.write_all(body.as_bytes())));
        let (heard, listener) = mpsc::channel();
        thread::spawn(move || {
            let mut said = Vec::new();
            if let Some(pipe) = stderr {
                let _ = pipe.take(LONGEST_COMPLAINT).read_to_end(&mut said);
            }
            heard.send(said)
        });
        thread::spawn(move || ended.send(child.wait()));
        let status = end.recv_timeout(self.timeout);
        if let (Err(_), Some(group)) = (&status, group) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        // What it left behind may hold the pipe open for as long as it likes.
        let said = listener.recv_timeout(LAST_WORDS).unwrap_or_default();
        match status {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(self.complain(status_text(status), &said)),
            Ok(Err(source)) => Err(SendError::Spawn { program: self.program.clone(), source }),
            Err(_) => Err(self.complain(format!("killed after {} s", self.timeout.as_secs()), &said)),
        }
    }

    fn probe(&self) -> Result<String, SendError> {
        let path = PathBuf::from(&self.program);
        let places: Vec<PathBuf> = if path.is_absolute() {
            vec![path]
        } else {
            SEARCHED.split(':').map(|folder| PathBuf::from(folder).join(&self.program)).collect()
        };
        let found = places.iter().find(|path| rustix::fs::access(path.as_path(), rustix::fs::Access::EXEC_OK).is_ok() && path.is_file());
        let missing = || SendError::Spawn { program: self.program.clone(), source: std::io::ErrorKind::NotFound.into() };
        found.map(|path| format!("{} can be run", path.display())).ok_or_else(missing)
    }
}

fn status_text(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}
