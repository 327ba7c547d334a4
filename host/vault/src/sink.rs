//! Chunks in, packs out: frames are filled in the order of the calls, encoded on several threads and written to
//! packs in the same order, so that the same input makes the same plaintext whatever the threads do.
//!
//! Bytes in flight are bounded: one frame in the builder, one in each queue slot and one in each encoder.

use crate::{
    error::VaultError,
    frame::{EncodedFrame, FrameBuilder, FrameEncoder, RawFrame},
    layout::{self, ObjectKind},
    open::{at, publish_upload},
    pack::{PackKind, PackWriter, Toc},
    seal::SealKey,
    store::{Lease, Store},
    timing::{Stage, Timings},
};
use crossbeam_channel::{Receiver, Sender, bounded};
use havun_model::{ChunkId, PackId};
use std::{collections::BTreeMap, sync::Arc, thread::JoinHandle};

/// A frame is closed when it holds this many raw bytes.
const FRAME_BYTES: usize = 1 << 20;
/// A chunk of this size or more stands alone in its frame.
const ALONE_BYTES: usize = 512 << 10;
/// A pack is closed when its stored bytes reach this.
const PACK_BYTES: u64 = 64 << 20;

/// What a sink needs to write packs.
#[derive(Clone)]
pub(crate) struct SinkParts {
    pub store: Arc<dyn Store>,
    pub lease: Arc<dyn Lease>,
    pub epoch: String,
    pub vault_id: String,
    pub key: Option<Arc<SealKey>>,
    pub level: i32,
    pub encoders: usize,
    pub timings: Arc<Timings>,
}

/// A pack that lies under its final name.
#[derive(Debug)]
pub(crate) struct WrittenPack {
    pub id: PackId,
    pub stored_bytes: u64,
    pub toc: Toc,
}

type Job = (u64, Work);
type Encoded = (u64, Result<EncodedFrame, VaultError>);

/// A frame for the encoders, or one that only has to be written in its turn.
enum Work {
    Raw(RawFrame),
    Done(EncodedFrame),
}

/// Takes chunks and writes them to packs of one kind.
pub(crate) struct PackSink {
    parts: SinkParts,
    kind: PackKind,
    builder: FrameBuilder,
    next_frame: u64,
    workers: Option<Workers>,
}

struct Workers {
    jobs: Sender<Job>,
    encoders: Vec<JoinHandle<()>>,
    /// Buffers of frames that have been encoded.
    spare: Receiver<Vec<u8>>,
    writer: JoinHandle<Result<Vec<WrittenPack>, VaultError>>,
}

impl PackSink {
    /// A sink that starts its threads with the first full frame.
    pub fn new(parts: SinkParts, kind: PackKind) -> Self {
        Self { parts, kind, builder: FrameBuilder::new(), next_frame: 0, workers: None }
    }

    /// Takes one chunk; waits while the encoders are behind.
    pub fn push(&mut self, id: ChunkId, bytes: &[u8]) -> Result<(), VaultError> {
        if bytes.len() >= ALONE_BYTES {
            let mut alone = FrameBuilder::new();
            if let Some(buffer) = self.workers.as_ref().and_then(|w| w.spare.try_recv().ok()) {
                alone.reuse(buffer);
            }
            alone.push(id, bytes);
            return self.submit(alone.take());
        }
        self.builder.push(id, bytes);
        if self.builder.raw_len() >= FRAME_BYTES {
            let frame = self.builder.take();
            self.submit(frame)?;
        }
        Ok(())
    }

    /// Takes a frame that is encoded already, a delta or one that is copied. What was pushed before it comes before it.
    pub fn push_encoded(&mut self, frame: EncodedFrame) -> Result<(), VaultError> {
        if !self.builder.is_empty() {
            let before = self.builder.take();
            self.submit(before)?;
        }
        self.send(Work::Done(frame))
    }

    /// Writes what is left and waits until every pack lies under its name.
    pub fn finish(mut self) -> Result<Vec<WrittenPack>, VaultError> {
        if !self.builder.is_empty() {
            let frame = self.builder.take();
            self.submit(frame)?;
        }
        self.workers.take().map_or(Ok(Vec::new()), Workers::join)
    }

    fn submit(&mut self, frame: RawFrame) -> Result<(), VaultError> {
        self.send(Work::Raw(frame))
    }

    fn send(&mut self, work: Work) -> Result<(), VaultError> {
        let workers = self.workers.get_or_insert_with(|| Workers::start(&self.parts, self.kind));
        let job = (self.next_frame, work);
        self.next_frame += 1;
        if workers.jobs.send(job).is_ok() {
            if self.builder.is_empty()
                && let Ok(buffer) = workers.spare.try_recv()
            {
                self.builder.reuse(buffer);
            }
            return Ok(());
        }
        // The writer gave up: its own error says why.
        match self.workers.take().map(Workers::join) {
            Some(Err(error)) => Err(error),
            _ => Err(VaultError::Internal { what: "writing packs", why: "the writer ended early".to_owned() }),
        }
    }
}

impl Workers {
    fn start(parts: &SinkParts, kind: PackKind) -> Self {
        let encoders = parts.encoders.max(1);
        let (jobs, job_queue) = bounded::<Job>(1);
        let (encoded, encoded_queue) = bounded::<Encoded>(1);
        let (used, spare) = bounded(2);
        let encoders = (0..encoders)
            .map(|_| {
                let (queue, out, used, level) = (job_queue.clone(), encoded.clone(), used.clone(), parts.level);
                let timings = Arc::clone(&parts.timings);
                std::thread::spawn(move || encode_frames(&queue, &out, &used, level, &timings))
            })
            .collect();
        let parts = parts.clone();
        let writer = std::thread::spawn(move || write_packs(&parts, kind, &encoded_queue));
        Self { jobs, encoders, spare, writer }
    }

    fn join(self) -> Result<Vec<WrittenPack>, VaultError> {
        drop(self.jobs);
        let panicked = |what| VaultError::Internal { what, why: "a thread panicked".to_owned() };
        let mut healthy = true;
        for encoder in self.encoders {
            healthy &= encoder.join().is_ok();
        }
        let packs = self.writer.join().map_err(|_| panicked("writing packs"))??;
        if healthy { Ok(packs) } else { Err(panicked("encoding frames")) }
    }
}

fn encode_frames(jobs: &Receiver<Job>, out: &Sender<Encoded>, used: &Sender<Vec<u8>>, level: i32, timings: &Timings) {
    let mut encoder = match FrameEncoder::new(level) {
        Ok(encoder) => encoder,
        Err(e) => {
            // The writer stops at the first error whatever its place in the order.
            let _stopped = out.send((0, Err(VaultError::Internal { what: "zstd", why: e.to_string() })));
            return;
        }
    };
    for (seq, work) in jobs {
        let frame = match work {
            Work::Raw(frame) => frame,
            Work::Done(encoded) => match out.send((seq, Ok(encoded))) {
                Ok(()) => continue,
                Err(_) => return,
            },
        };
        let encoded = timings.of(Stage::Compress, || encoder.encode(&frame));
        let encoded = encoded.map_err(|e| VaultError::Internal { what: "encoding a frame", why: e.to_string() });
        if out.send((seq, encoded)).is_err() {
            return;
        }
        // A buffer too many is simply dropped.
        let _full = used.try_send(frame.raw);
    }
}

/// Takes frames in any order, writes them in theirs.
fn write_packs(parts: &SinkParts, kind: PackKind, frames: &Receiver<Encoded>) -> Result<Vec<WrittenPack>, VaultError> {
    let context = layout::context(&parts.vault_id, ObjectKind::Pack);
    let sealing = parts.key.as_deref().map(|key| (key, context.as_str()));
    let mut written = Vec::new();
    let mut open: Option<PackWriter<'_>> = None;
    let mut early = BTreeMap::new();
    let mut expected = 0;
    for (seq, frame) in frames {
        early.insert(seq, frame?);
        while let Some(frame) = early.remove(&expected) {
            expected += 1;
            let mut pack = match open.take() {
                Some(pack) => pack,
                None => begin_pack(parts, kind, sealing)?,
            };
            parts.timings.of(Stage::Write, || pack.push(frame)).map_err(|e| pack_error(parts, e))?;
            if pack.len() >= PACK_BYTES {
                written.push(publish_pack(parts, pack)?);
            } else {
                open = Some(pack);
            }
        }
    }
    if let Some(pack) = open {
        written.push(publish_pack(parts, pack)?);
    }
    Ok(written)
}

fn begin_pack<'a>(parts: &'a SinkParts, kind: PackKind, sealing: Option<(&SealKey, &str)>) -> Result<PackWriter<'a>, VaultError> {
    let upload = parts.store.begin().map_err(|e| at(&*parts.store, e))?;
    PackWriter::new(upload, kind, sealing).map_err(|e| pack_error(parts, e))
}

fn publish_pack(parts: &SinkParts, pack: PackWriter<'_>) -> Result<WrittenPack, VaultError> {
    let finished = parts.timings.of(Stage::Write, || pack.finish()).map_err(|e| pack_error(parts, e))?;
    parts.lease.check().map_err(|e| at(&*parts.store, e))?;
    let name = layout::pack(&parts.epoch, &finished.id);
    parts.timings.of(Stage::Publish, || publish_upload(&*parts.store, finished.upload, &name, finished.stored_size))?;
    Ok(WrittenPack { id: finished.id, stored_bytes: finished.stored_size, toc: finished.toc })
}

fn pack_error(parts: &SinkParts, error: crate::pack::PackError) -> VaultError {
    match error {
        crate::pack::PackError::Store(source) => at(&*parts.store, source),
        crate::pack::PackError::ReadBack => VaultError::ReadBack { object: "a new pack".to_owned() },
        other => VaultError::Internal { what: "writing a pack", why: other.to_string() },
    }
}
