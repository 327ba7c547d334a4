//! Compiling in a child process. A component can make the compiler use gigabytes or minutes, which is outside
//! wasmtime's promises, so it happens where the operating system holds the limits and a crash hurts nobody.
//!
//! The child is a program of ours started with [`COMPILE_ARGUMENT`]; it must call [`compile_child_main`] then.
//! Component on standard input, artefact on standard output, the reason of a refusal on standard error.

use crate::{engine, error::CompileError, limits::CompileLimits};
use rustix::process::{Resource, Rlimit};
use std::{
    io::{Read, Write},
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Child, Command, ExitCode, ExitStatus, Stdio},
    sync::mpsc,
    thread,
};

/// First argument of the compiling child.
pub const COMPILE_ARGUMENT: &str = "__compile-strategy";

/// Largest artefact.
const MAX_ARTEFACT: u64 = 512 << 20;
/// Bytes kept of what a failing child says.
const MAX_COMPLAINT: u64 = 4096;

/// Main function of the compiling child: arguments are [`COMPILE_ARGUMENT`], bytes of address space, seconds of
/// processor time.
pub fn compile_child_main() -> ExitCode {
    match compile_child() {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            let _ = std::io::stderr().write_all(what.as_bytes());
            ExitCode::FAILURE
        }
    }
}

fn compile_child() -> Result<(), String> {
    let mut numbers = std::env::args().skip(2).map(|argument| argument.parse::<u64>().ok());
    for resource in [Resource::As, Resource::Cpu] {
        let limit = numbers.next().flatten().ok_or("the compiler is started by this program only")?;
        restrict(resource, limit)?;
    }
    restrict(Resource::Core, 0)?;
    let mut wasm = Vec::new();
    std::io::stdin().read_to_end(&mut wasm).map_err(|source| source.to_string())?;
    let artefact = compile_here(&wasm)?;
    std::io::stdout().write_all(&artefact).map_err(|source| source.to_string())
}

fn restrict(resource: Resource, limit: u64) -> Result<(), String> {
    let most = rustix::process::getrlimit(resource).maximum.map_or(limit, |maximum| maximum.min(limit));
    rustix::process::setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) }).map_err(|errno| errno.to_string())
}

/// Compiles in this very process: for tests of trusted components.
pub fn compile_here(wasm: &[u8]) -> Result<Vec<u8>, String> {
    let engine = engine::engine().map_err(|source| format!("{source:#}"))?;
    engine.precompile_component(wasm).map_err(|source| format!("{source:#}"))
}

/// Has `wasm` compiled by `program`.
pub fn compile_in_child(program: &Path, limits: CompileLimits, wasm: &[u8]) -> Result<Vec<u8>, CompileError> {
    let mut child = start(program, limits)?;
    let (Some(input), Some(output), Some(errors)) = (child.stdin.take(), child.stdout.take(), child.stderr.take()) else {
        return Err(CompileError::Io(std::io::Error::other("no pipes")));
    };
    let exchange = thread::scope(|scope| {
        let (done, finished) = mpsc::channel();
        scope.spawn(move || feed(input, wasm));
        let complaint = scope.spawn(move || read_all(errors, MAX_COMPLAINT));
        scope.spawn(move || done.send(read_all(output, MAX_ARTEFACT)));
        let artefact = finished.recv_timeout(limits.wall);
        if artefact.is_err() {
            let _ = child.kill();
        }
        let complaint = complaint.join().unwrap_or_else(|_| Ok(Vec::new()));
        (artefact, complaint)
    });
    let status = child.wait()?;
    let complaint = exchange.1.unwrap_or_default();
    match exchange.0 {
        Err(_) => Err(CompileError::Limits(format!("more than {} s", limits.wall.as_secs()))),
        Ok(_) if !status.success() => Err(failure(status, &complaint)),
        Ok(artefact) => Ok(artefact?),
    }
}

fn start(program: &Path, limits: CompileLimits) -> Result<Child, CompileError> {
    Command::new(program)
        .arg(COMPILE_ARGUMENT)
        .arg(limits.memory_bytes.to_string())
        .arg(limits.cpu.as_secs().max(1).to_string())
        .env_clear()
        // Each thread and each arena of malloc reserves address space, which is what the limit counts.
        .env("RAYON_NUM_THREADS", thread::available_parallelism().map_or(1, usize::from).min(4).to_string())
        .env("MALLOC_ARENA_MAX", "2")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|source| CompileError::Start { program: program.display().to_string(), source })
}

/// A child that ends early closes its end; its status says why.
fn feed(mut input: impl Write, wasm: &[u8]) {
    let _ = input.write_all(wasm);
}

/// Reads to the end, keeping at most `max` bytes.
fn read_all(mut from: impl Read, max: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    (&mut from).take(max).read_to_end(&mut bytes)?;
    std::io::copy(&mut from, &mut std::io::sink())?;
    Ok(bytes)
}

fn failure(status: ExitStatus, complaint: &[u8]) -> CompileError {
    let said = crate::text::line(&String::from_utf8_lossy(complaint), 1000);
    match status.signal() {
        Some(signal) => CompileError::Limits(if said.is_empty() { format!("signal {signal}") } else { said }),
        None if said.is_empty() => CompileError::Refused(format!("the compiler ended with {status}")),
        None => CompileError::Refused(said),
    }
}
