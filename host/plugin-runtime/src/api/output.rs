//! `output`: the bytes of a generated item. They go over a channel to the thread that asked for them, which
//! owns the destination, and each piece is answered before the guest goes on.

use super::{
    Fatal, GuestError, HostError,
    bindings::havun::backup::output::{Host, HostWriter},
};
use crate::call::Guest;
use std::{
    io::Write,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, Sender},
    },
};
use wasmtime::component::Resource;

/// Most bytes of one `write`.
const MAX_WRITE: usize = 1 << 20;

/// How far an item has come; outlives the call.
#[derive(Debug, Default, Clone)]
pub struct WriterState {
    /// Bytes that the destination took.
    pub written: u64,
    /// `finish` was called.
    pub finished: bool,
    /// The destination failed.
    pub broken: Option<String>,
    /// The guest wrote more than it may.
    pub exceeded: bool,
}

/// The guest's end.
#[derive(Debug)]
pub struct Writer {
    pieces: Sender<Vec<u8>>,
    answers: Receiver<Result<(), String>>,
    state: Arc<Mutex<WriterState>>,
}

/// The end of the thread that owns the destination.
#[derive(Debug)]
pub struct Port {
    pieces: Receiver<Vec<u8>>,
    answers: Sender<Result<(), String>>,
    state: Arc<Mutex<WriterState>>,
}

/// Both ends.
pub fn channel() -> (Writer, Port) {
    let (pieces, incoming) = std::sync::mpsc::channel();
    let (outgoing, answers) = std::sync::mpsc::channel();
    let state = Arc::new(Mutex::new(WriterState::default()));
    (Writer { pieces, answers, state: Arc::clone(&state) }, Port { pieces: incoming, answers: outgoing, state })
}

impl Port {
    /// Passes everything on to `out` until the guest's end is gone.
    pub fn serve(self, out: &mut dyn Write) -> WriterState {
        for piece in &self.pieces {
            let taken = out.write_all(&piece).map_err(|source| source.to_string());
            if self.answers.send(taken).is_err() {
                break;
            }
        }
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Writer {
    fn with_state<R>(&self, ask: impl FnOnce(&mut WriterState) -> R) -> R {
        ask(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn write(&self, bytes: Vec<u8>, limit: u64) -> Result<(), GuestError> {
        let len = bytes.len() as u64;
        self.with_state(|state| {
            if state.finished {
                return Err(GuestError::Invalid("the writer is finished".to_owned()));
            }
            if bytes.len() > MAX_WRITE {
                return Err(GuestError::Limit(format!("{len} bytes in one write, more than {MAX_WRITE}")));
            }
            state.exceeded |= state.written.saturating_add(len) > limit;
            if state.exceeded {
                return Err(GuestError::Limit(format!("more than {limit} bytes for one item")));
            }
            Ok(())
        })?;
        let gone = || "its destination is gone".to_owned();
        let answer = self.pieces.send(bytes).map_err(|_| gone()).and_then(|()| self.answers.recv().unwrap_or_else(|_| Err(gone())));
        self.with_state(|state| match answer {
            Ok(()) => {
                state.written += len;
                Ok(())
            }
            Err(what) => {
                state.broken = Some(what.clone());
                Err(GuestError::Io(what))
            }
        })
    }
}

impl Host for Guest {}

impl HostWriter for Guest {
    fn write(&mut self, this: Resource<Writer>, bytes: Vec<u8>) -> Result<(), HostError> {
        if let Some(stop) = self.must_stop() {
            return Err(Fatal(stop).into());
        }
        let limit = self.limits.output_bytes;
        Ok(self.table.get(&this).map_err(Fatal)?.write(bytes, limit)?)
    }

    fn finish(&mut self, this: Resource<Writer>) -> Result<(), HostError> {
        let writer = self.table.get(&this).map_err(Fatal)?;
        let was_finished = writer.with_state(|state| std::mem::replace(&mut state.finished, true));
        if was_finished { Err(GuestError::Invalid("the writer is finished".to_owned()).into()) } else { Ok(()) }
    }

    fn drop(&mut self, this: Resource<Writer>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}
