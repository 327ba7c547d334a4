//! What deltas rest on: how deep a chunk lies, and every chunk that a set of chunks needs.

use crate::{index::Index, pack::PackKind, reader::MAX_DEPTH};
use havun_model::ChunkId;
use std::collections::{HashMap, HashSet};

/// How many deltas away from a plain frame chunks are; what was answered is kept.
#[derive(Default)]
pub(crate) struct Depths {
    known: HashMap<(u32, u32), Option<u32>>,
}

impl Depths {
    /// 0 for a chunk that is no delta. `None` where the chunk, or one that it needs, is not in the index, where deltas need
    /// each other in a circle, or beyond [`MAX_DEPTH`].
    pub fn of(&mut self, index: &Index, id: &ChunkId) -> Option<u32> {
        self.at_most(index, id, MAX_DEPTH)
    }

    /// Likewise, of the chunks in one frame.
    pub fn of_frame(&mut self, index: &Index, pack: u32, frame: u32) -> Option<u32> {
        self.frame(index, (pack, frame), MAX_DEPTH)
    }

    fn at_most(&mut self, index: &Index, id: &ChunkId, left: u32) -> Option<u32> {
        let at = index.get(id)?;
        self.frame(index, (at.pack, at.frame), left)
    }

    fn frame(&mut self, index: &Index, key: (u32, u32), left: u32) -> Option<u32> {
        let bases = index.pack(key.0)?.bases(key.1);
        if bases.is_empty() {
            return Some(0);
        }
        if let Some(known) = self.known.get(&key) {
            return *known;
        }
        // Whoever comes back here while it is being asked has gone in a circle.
        self.known.insert(key, None);
        let deepest = bases.iter().try_fold(0, |deepest: u32, base| Some(deepest.max(self.at_most(index, base, left.checked_sub(1)?)?)));
        let depth = deepest.map(|deepest| deepest + 1).filter(|depth| *depth <= MAX_DEPTH);
        self.known.insert(key, depth);
        depth
    }
}

impl Index {
    /// Forgets every delta that cannot be read because of a chunk that is not in the index: whoever asks for its chunks shall
    /// store them anew.
    pub(crate) fn forget_baseless(&mut self) {
        if self.packs().iter().all(|pack| pack.kind != PackKind::Delta) {
            return;
        }
        let mut depths = Depths::default();
        let mut baseless = HashSet::new();
        for (number, pack) in (0..).zip(self.packs()) {
            let frames = (0..).zip(&pack.frames).map(|(frame, _)| frame);
            baseless.extend(frames.filter(|frame| depths.of_frame(self, number, *frame).is_none()).map(|frame| (number, frame)));
        }
        if !baseless.is_empty() {
            self.retain_chunks(|pack, frame| !baseless.contains(&(pack, frame)));
        }
    }

    /// The frames of all deltas, with the chunks in each and its bases.
    pub(crate) fn deltas(&self) -> Deltas {
        let mut deltas = Deltas::default();
        for pack in self.packs().iter().filter(|pack| pack.kind == PackKind::Delta) {
            let Some(toc) = self.toc(&pack.id) else { continue };
            for frame in toc.frames {
                let number = deltas.bases.len();
                for entry in &frame.entries {
                    deltas.frames.entry(entry.id).or_default().push(number);
                }
                deltas.bases.push(frame.bases);
            }
        }
        deltas
    }
}

/// The deltas that cannot be read because chunks that they rest on are among `bad` or not in the index: each with the chunk that
/// is the cause. A chunk that also lies elsewhere, plainly or as a delta of others, is read from there.
pub(crate) fn broken(index: &Index, bad: &HashSet<ChunkId>) -> HashMap<ChunkId, ChunkId> {
    let deltas = index.deltas();
    let mut open: Vec<&ChunkId> = deltas.frames.keys().filter(|id| !bad.contains(*id) && index.is_only_delta(id)).collect();
    let mut causes = HashMap::new();
    loop {
        let before = open.len();
        open.retain(|id| {
            let cause = deltas.cause(id, index, bad, &causes);
            causes.extend(cause.map(|cause| (**id, cause)));
            cause.is_none()
        });
        if open.len() == before {
            return causes;
        }
    }
}

/// Every delta of an epoch. A chunk may be one in several packs, with other bases in each.
#[derive(Default)]
pub(crate) struct Deltas {
    frames: HashMap<ChunkId, Vec<usize>>,
    bases: Vec<Vec<ChunkId>>,
}

impl Deltas {
    /// Adds to `chunks` every chunk that one of them needs, wherever it lies.
    pub fn complete(&self, chunks: &mut HashSet<ChunkId>) {
        let mut open: Vec<ChunkId> = chunks.iter().filter(|id| self.frames.contains_key(*id)).copied().collect();
        while let Some(id) = open.pop() {
            for base in self.bases_of(&id) {
                if chunks.insert(*base) {
                    open.push(*base);
                }
            }
        }
    }

    /// Why a chunk cannot be read from any of its deltas: the first one's base that is to blame.
    fn cause(&self, id: &ChunkId, index: &Index, bad: &HashSet<ChunkId>, causes: &HashMap<ChunkId, ChunkId>) -> Option<ChunkId> {
        let of = |base: &ChunkId| causes.get(base).copied().or((bad.contains(base) || index.get(base).is_none()).then_some(*base));
        let frames = self.frames.get(id)?.iter().filter_map(|number| self.bases.get(*number));
        let mut found = frames.map(|bases| bases.iter().find_map(of));
        let first = found.next()??;
        found.all(|cause| cause.is_some()).then_some(first)
    }

    fn bases_of(&self, id: &ChunkId) -> impl Iterator<Item = &ChunkId> {
        self.frames.get(id).into_iter().flatten().filter_map(|number| self.bases.get(*number)).flatten()
    }
}
