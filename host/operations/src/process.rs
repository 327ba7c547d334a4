//! Children of the host: `mariadb-dump`, `git` and the like, run without a shell, fed and read through pipes of our
//! own.
//!
//! Success is for the caller to judge from [`Ended`]; here only what keeps a child from being run or read is an
//! error. A child never outlives the call: it is killed and awaited on every way out.

use havun_model::Cancel;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::{
    io::{self, Read, Write},
    os::{fd::AsFd, unix::process::ExitStatusExt},
    path::PathBuf,
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
    thread::JoinHandle,
};

/// How much of what a child says on its standard error is kept, in bytes.
const LONGEST_COMPLAINT: usize = 16 * 1024;
/// How often a quiet child is left to look at the cancel flag.
const TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

/// Why a child could not be run or read.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// It is not there, or may not be run.
    #[error("cannot run {program}")]
    Spawn {
        /// The program.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// Its pipes broke.
    #[error("cannot talk to {program}")]
    Pipe {
        /// The program.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// Stopped by the operator.
    #[error("stopped {program} before its end")]
    Cancelled {
        /// The program.
        program: String,
    },
}

/// How a child ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub status: ExitStatus,
    /// What it said on its standard error: bounded, free of control characters, one line per line.
    pub complaint: String,
}

impl Ended {
    /// "exit status 2" or "signal 9".
    pub fn status_text(&self) -> String {
        match (self.status.code(), self.status.signal()) {
            (Some(code), _) => format!("exit status {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => self.status.to_string(),
        }
    }
}

/// The program of a command, for messages.
pub(crate) fn program(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

/// The first of `names` that is on the PATH or in one of `folders`.
pub(crate) fn find_program(names: &[&str], folders: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let all: Vec<PathBuf> = std::env::split_paths(&path).chain(folders.iter().map(PathBuf::from)).collect();
    names.iter().flat_map(|name| all.iter().map(move |folder| folder.join(name))).find(|path| path.is_file())
}

/// A command with nothing of our environment but what finds programs and homes.
pub(crate) fn bare_command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env_clear().stdin(Stdio::null());
    for name in ["PATH", "HOME", "TMPDIR"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.env("LC_ALL", "C.UTF-8");
    command
}

/// Runs `command` and hands its standard output to `take`, piece by piece. Whatever ends it early kills it.
///
/// # Errors
/// `E` of `take`, or a [`ProcessError`].
pub(crate) fn read<E: From<ProcessError>>(
    command: &mut Command,
    cancel: &Cancel,
    mut take: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<Ended, E> {
    let mut running = Running::spawn(command.stdout(Stdio::piped()))?;
    let Some(mut stdout) = running.child.stdout.take() else { return Err(running.broken(io::ErrorKind::BrokenPipe.into()).into()) };
    let mut buffer = vec![0; 256 * 1024];
    loop {
        wait_for(&stdout, PollFlags::IN, cancel, &running)?;
        match stdout.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => take(buffer.get(..count).unwrap_or_default())?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(running.broken(error).into()),
        }
    }
    Ok(running.wait()?)
}

/// Runs `command` and collects its standard output, up to `limit` bytes.
pub(crate) fn capture(command: &mut Command, cancel: &Cancel, limit: usize) -> Result<(Ended, Vec<u8>), ProcessError> {
    let mut text = Vec::new();
    let program = program(command);
    let ended = read(command, cancel, |piece| {
        text.extend_from_slice(piece);
        let too_long = || ProcessError::Pipe { program: program.clone(), source: io::Error::other("it says more than it should") };
        if text.len() > limit { Err(too_long()) } else { Ok(()) }
    })?;
    Ok((ended, text))
}

/// What became of a child that was fed.
pub(crate) struct Fed<T> {
    pub ended: Ended,
    pub stdout: Vec<u8>,
    /// What `give` returned; an error of it killed the child, unless the child had ended first.
    pub given: T,
}

/// Runs `command`, lets `give` write its standard input, and closes it. When `give` fails for another reason than
/// that the child has ended, the child is killed, so that it never takes a cut-off input for a whole one.
pub(crate) fn feed<T, E>(
    command: &mut Command,
    cancel: &Cancel,
    give: impl FnOnce(&mut (dyn Write + Send)) -> Result<T, E>,
) -> Result<Fed<Result<T, E>>, ProcessError> {
    let mut running = Running::spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()))?;
    let (Some(stdin), Some(stdout)) = (running.child.stdin.take(), running.child.stdout.take()) else {
        return Err(running.broken(io::ErrorKind::BrokenPipe.into()));
    };
    let listener = std::thread::spawn(move || {
        let mut text = Vec::new();
        let _ = stdout.take(1 << 20).read_to_end(&mut text);
        text
    });
    let mut input = Input { stdin, cancel, closed: false };
    rustix::fs::fcntl_setfl(&input.stdin, rustix::fs::OFlags::NONBLOCK).map_err(|errno| running.broken(errno.into()))?;
    let given = give(&mut input);
    let gone = input.closed;
    if given.is_err() && !gone {
        running.kill();
    }
    drop(input);
    let ended = running.wait_watching(cancel)?;
    Ok(Fed { ended, stdout: listener.join().unwrap_or_default(), given })
}

/// The standard input of a child; a write waits for the child but looks at the cancel flag meanwhile.
struct Input<'a> {
    stdin: std::process::ChildStdin,
    cancel: &'a Cancel,
    closed: bool,
}

impl Write for Input<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            if self.cancel.is_cancelled() {
                return Err(io::Error::other("stopped by the operator"));
            }
            match self.stdin.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let mut fds = [PollFd::new(&self.stdin, PollFlags::OUT)];
                    match poll(&mut fds, Some(&TICK)) {
                        Ok(_) | Err(rustix::io::Errno::INTR) => {}
                        Err(errno) => return Err(errno.into()),
                    }
                }
                Err(error) => {
                    self.closed |= error.kind() == io::ErrorKind::BrokenPipe;
                    return Err(error);
                }
                Ok(count) => return Ok(count),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A child and who listens to its complaints; killed when dropped.
struct Running {
    child: Child,
    program: String,
    complaint: Option<JoinHandle<String>>,
    over: bool,
}

impl Running {
    fn spawn(command: &mut Command) -> Result<Self, ProcessError> {
        let program = program(command);
        let mut child =
            command.stderr(Stdio::piped()).spawn().map_err(|source| ProcessError::Spawn { program: program.clone(), source })?;
        let complaint = child.stderr.take().map(|stderr| std::thread::spawn(move || listen(stderr)));
        Ok(Self { child, program, complaint, over: false })
    }

    fn broken(&self, source: io::Error) -> ProcessError {
        ProcessError::Pipe { program: self.program.clone(), source }
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
    }

    fn wait(mut self) -> Result<Ended, ProcessError> {
        let status = self.child.wait().map_err(|source| self.broken(source))?;
        self.over = true;
        let complaint = self.complaint.take().and_then(|listener| listener.join().ok()).unwrap_or_default();
        Ok(Ended { status, complaint })
    }

    /// Waits for a child that may take its time although its input has ended.
    fn wait_watching(mut self, cancel: &Cancel) -> Result<Ended, ProcessError> {
        while self.complaint.as_ref().is_some_and(|listener| !listener.is_finished()) {
            if cancel.is_cancelled() {
                self.kill();
            }
            let _ = poll(&mut [], Some(&Timespec { tv_sec: 0, tv_nsec: 2_000_000 }));
        }
        self.wait()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.over {
            self.kill();
            let _ = self.child.wait();
        }
    }
}

fn wait_for(fd: &impl AsFd, flags: PollFlags, cancel: &Cancel, running: &Running) -> Result<(), ProcessError> {
    loop {
        if cancel.is_cancelled() {
            return Err(ProcessError::Cancelled { program: running.program.clone() });
        }
        let mut fds = [PollFd::new(fd, flags)];
        match poll(&mut fds, Some(&TICK)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return Ok(()),
            Err(errno) => return Err(running.broken(errno.into())),
        }
    }
}

/// Reads a child's complaints to their end, so that it never waits for us, and keeps the first half and the last: what
/// went wrong is often said at the end.
fn listen(mut stderr: ChildStderr) -> String {
    const HALF: usize = LONGEST_COMPLAINT / 2;
    let (mut kept, mut last) = (Vec::new(), Vec::new());
    let mut piece = [0; 4096];
    while let Ok(count @ 1..) = stderr.read(&mut piece) {
        let room = HALF.saturating_sub(kept.len()).min(count);
        kept.extend_from_slice(piece.get(..room).unwrap_or_default());
        last.extend_from_slice(piece.get(room..count).unwrap_or_default());
        let old = last.len().saturating_sub(HALF);
        last.drain(..old);
    }
    kept.extend_from_slice(&last);
    let text = String::from_utf8_lossy(&kept);
    // A tab stands between words: mongorestore's number after its time, for one.
    text.trim().chars().map(|c| if c == '\t' { ' ' } else { c }).filter(|c| *c == '\n' || !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = bare_command("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn output_status_and_complaint_come_back() {
        let (ended, text) = capture(&mut shell("echo out; echo err >&2; exit 3"), &Cancel::default(), 100).unwrap();
        assert_eq!(
            (text.as_slice(), ended.status_text().as_str(), ended.complaint.as_str()),
            (b"out\n".as_slice(), "exit status 3", "err")
        );
    }

    #[test]
    fn a_cancelled_child_is_killed_though_it_says_nothing() {
        let cancel = Cancel::default();
        cancel.cancel();
        let error = capture(&mut shell("sleep 600"), &cancel, 100).unwrap_err();
        assert!(matches!(error, ProcessError::Cancelled { .. }), "{error}");
    }

    #[test]
    fn a_child_that_dies_while_it_is_fed_is_reported_with_its_words() {
        let fed = feed(&mut shell("echo no >&2; exit 4"), &Cancel::default(), |out| {
            let block = [0; 65536];
            loop {
                out.write_all(&block)?;
            }
            #[expect(unreachable_code, reason = "gives the closure its type")]
            Ok::<(), io::Error>(())
        })
        .unwrap();
        assert!(fed.given.is_err());
        assert_eq!((fed.ended.status_text().as_str(), fed.ended.complaint.as_str()), ("exit status 4", "no"));
    }

    #[test]
    fn a_child_whose_input_fails_is_killed_before_it_can_finish() {
        let fed = feed(&mut shell("cat >/dev/null; echo finished"), &Cancel::default(), |_| Err::<(), _>("gone")).unwrap();
        assert_eq!((fed.given, fed.stdout.as_slice()), (Err("gone"), b"".as_slice()));
        assert!(!fed.ended.status.success());
    }
}
