use super::*;
use crate::{
    chunk::chunk_id,
    frame::{FrameBuilder, FrameDecoder, FrameEncoder},
    store::{MemoryStore, Published},
    testing::{sha, stream, stream_from},
};
use proptest::prelude::*;
use std::sync::Arc;
use std::{fs, path::Path, process::Command};

const CONTEXT: &str = "havun-backup/v1/00112233445566778899aabbccddeeff/pack";

fn key() -> SealKey {
    SealKey::from_bytes([5; 32])
}

fn ring() -> KeyRing {
    let ring = KeyRing::default();
    ring.add(Arc::new(SealKey::from_bytes([6; 32])));
    ring.add(Arc::new(key()));
    ring
}

fn frame(chunks: &[Vec<u8>]) -> EncodedFrame {
    let mut builder = FrameBuilder::new();
    chunks.iter().for_each(|chunk| builder.push(chunk_id(chunk), chunk));
    FrameEncoder::new(3).unwrap().encode(&builder.take()).unwrap()
}

/// Three frames: small texts, one large chunk of noise, one small chunk.
fn chunks() -> [Vec<Vec<u8>>; 3] {
    let texts = (0..40).map(|n| format!("line {n}\n").repeat(n * 7).into_bytes()).collect();
    [texts, vec![stream(3 << 19)], vec![b"the end".to_vec()]]
}

fn name() -> ObjectName {
    ObjectName::new("epochs/2026/packs/aa/x").unwrap()
}

fn write(store: &dyn Store, sealed: bool, frames: impl IntoIterator<Item = EncodedFrame>) -> (PackId, u64, Toc) {
    let key = key();
    let mut writer = PackWriter::new(store.begin().unwrap(), PackKind::Data, sealed.then_some((&key, CONTEXT))).unwrap();
    frames.into_iter().for_each(|frame| writer.push(frame).unwrap());
    let finished = writer.finish().unwrap();
    let written = (finished.id, finished.stored_size, finished.toc);
    assert_eq!(finished.upload.publish(&name()).unwrap(), Published::New);
    written
}

fn sample_pack(sealed: bool) -> (MemoryStore, PackId, u64, Toc) {
    let store = MemoryStore::new("memory");
    let (id, size, toc) = write(&store, sealed, chunks().iter().map(|group| frame(group)));
    (store, id, size, toc)
}

fn open<'s>(store: &'s MemoryStore, sealed: bool, ring: &KeyRing) -> Result<PackReader<'s>, PackError> {
    PackReader::open(store, &name(), sealed.then_some((ring, CONTEXT)))
}

/// Everything that a restore would read: the table of contents, and every chunk by its hash.
fn read_all(store: &MemoryStore, sealed: bool) -> Result<Toc, String> {
    let reader = open(store, sealed, &ring()).map_err(|e| e.to_string())?;
    let toc = reader.toc().map_err(|e| e.to_string())?;
    let mut decoder = FrameDecoder::new().unwrap();
    for frame in &toc.frames {
        let stored = reader.read_frame(&frame.place).map_err(|e| e.to_string())?;
        let raw = decoder.decode(&stored, frame.place.raw).map_err(|e| e.to_string())?;
        for entry in &frame.entries {
            let chunk = entry.slice(&raw).ok_or("entry outside its frame")?;
            if chunk_id(chunk) != entry.id {
                return Err(format!("chunk {} is damaged", entry.id));
            }
        }
    }
    Ok(toc)
}

#[test]
fn a_pack_comes_back() {
    for sealed in [false, true] {
        let (store, id, size, toc) = sample_pack(sealed);
        let stored = store.read(&name(), 1 << 30).unwrap();
        assert_eq!((sha(&stored), stored.len() as u64), (id.to_hex(), size));
        assert_eq!(read_all(&store, sealed), Ok(toc.clone()));
        let ids: Vec<_> = chunks().iter().flatten().map(|chunk| chunk_id(chunk)).collect();
        assert_eq!(toc.chunks().map(|entry| entry.id).collect::<Vec<_>>(), ids);
    }
}

#[test]
fn an_empty_pack_is_a_pack() {
    for sealed in [false, true] {
        let store = MemoryStore::new("memory");
        let (_, _, toc) = write(&store, sealed, []);
        assert_eq!(read_all(&store, sealed), Ok(toc));
    }
}

/// Made with a Python implementation written from the words of `docs/FORMAT.md`.
#[test]
fn golden_pack() {
    for (sealing, expected) in [
        (None, "99de62ab44d662110c93f42056249d25a9f4bffb5dc12aa43189fa3cfc96ebe0"),
        (Some((&key(), CONTEXT)), "8490590756f9f7943ef206b9359c03222930f87df71c8a5451252adcd2468c48"),
    ] {
        let store = MemoryStore::new("memory");
        let mut writer = PackWriter::with_salt(store.begin().unwrap(), PackKind::Manifest, sealing, [3; SALT_BYTES]);
        // Noise is stored in raw blocks, so that another version of zstd writes the same bytes.
        writer.push(frame(&[stream(300_000)])).unwrap();
        writer.push(frame(&[stream(20_000), stream_from(9, 300_000)])).unwrap();
        assert_eq!(writer.finish().unwrap().id.to_hex(), expected);
    }
}

/// `zstd -t`, `tar -I zstd -t` and `sha256sum` on what a pack holds.
#[test]
fn the_tools_of_every_system_read_a_pack() {
    for sealed in [false, true] {
        let (store, _, _, toc) = sample_pack(sealed);
        let reader = open(&store, sealed, &ring()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pack.tar.zst");
        fs::write(&file, reader.read_plain(0, reader.plain_len()).unwrap()).unwrap();
        run(Command::new("zstd").arg("-q").arg("-t").arg(&file));
        let listed = run(Command::new("tar").args(["-I", "zstd", "-tf"]).arg(&file));
        let expected: String = toc.chunks().map(|entry| format!("c/{}\n", entry.id)).collect();
        assert_eq!(listed, expected);
        run(Command::new("tar").args(["-I", "zstd", "-xf"]).arg(&file).arg("-C").arg(folder.path()));
        toc.chunks().for_each(|entry| assert_hash(folder.path(), &entry.id.to_hex()));
    }
}

fn assert_hash(folder: &Path, id: &str) {
    assert_eq!(sha(&fs::read(folder.join("c").join(id)).unwrap()), id);
}

fn run(command: &mut Command) -> String {
    let out = command.output().unwrap();
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// The table as the "seekable" format has it: offsets are sums of stored sizes, and it covers the whole file.
#[test]
fn the_seek_table_covers_the_pack() {
    let (store, _, size, toc) = sample_pack(false);
    let bytes = store.read(&name(), 1 << 30).unwrap();
    let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    assert_eq!(number(bytes.len() - 4), 0x8F92_EAB1);
    let listed = number(bytes.len() - 9) as usize;
    let table = bytes.len() - 9 - 8 * listed;
    assert_eq!((number(table - 8), number(table - 4) as usize), (0x184D_2A5E, 8 * listed + 9));
    let sizes: Vec<(u32, u32)> = (0..listed).map(|n| (number(table + 8 * n), number(table + 8 * n + 4))).collect();
    assert_eq!(sizes.len(), toc.frames.len() + 2);
    assert_eq!(sizes.iter().map(|(stored, _)| u64::from(*stored)).sum::<u64>() + 8 + 8 * listed as u64 + 9, size);
    let places: Vec<_> = toc.frames.iter().map(|f| (f.place.stored, f.place.raw)).collect();
    assert_eq!(sizes[..places.len()], places);
}

#[test]
fn the_same_plaintext_sealed_twice_gives_two_packs_that_read_alike() {
    let (first, one, ..) = sample_pack(true);
    let (second, two, ..) = sample_pack(true);
    assert_ne!(one, two);
    assert_eq!(read_all(&first, true), read_all(&second, true));
}

#[test]
fn another_key_and_another_context_are_refused() {
    let (store, ..) = sample_pack(true);
    assert!(matches!(open(&store, true, &KeyRing::default()), Err(PackError::NoKey)));
    let opened = PackReader::open(&store, &name(), Some((&ring(), "havun-backup/v1/other/pack")));
    assert!(matches!(opened, Err(PackError::NoKey)));
    let missing = ObjectName::new("epochs/2026/packs/aa/y").unwrap();
    assert!(matches!(PackReader::open(&store, &missing, None), Err(PackError::Store(StoreError::NotFound { .. }))));
}

#[test]
fn ranges_outside_the_pack_are_refused() {
    for sealed in [false, true] {
        let (store, ..) = sample_pack(sealed);
        let ring = ring();
        let reader = open(&store, sealed, &ring).unwrap();
        let len = reader.plain_len();
        for (offset, bytes) in [(0, len + 1), (len, 1), (len + 1, 0), (u64::MAX, 1), (1, u64::MAX), (u64::MAX, u64::MAX)] {
            assert!(matches!(reader.read_plain(offset, bytes), Err(PackError::Range { .. })), "{offset} {bytes}");
        }
        assert_eq!(reader.read_plain(len, 0).unwrap(), b"");
        let place = FrameRef { offset: u64::MAX - 3, stored: 9, raw: 1 };
        assert!(reader.read_frame(&place).is_err());
    }
}

#[test]
fn a_pack_cut_anywhere_is_refused() {
    for sealed in [false, true] {
        let (whole, _, size, toc) = sample_pack(sealed);
        let tail = toc.encode_tail().len() as u64;
        let edges = [0, 8, 56, 72, 56 + 16400, 56 + 32800, size - tail - 11, size - 17, size - 9, size - 1];
        for len in edges.into_iter().flat_map(|edge| [edge.saturating_sub(1), edge, edge + 1]).filter(|len| *len < size) {
            let store = whole.after_power_cut(false);
            assert!(store.damage(&name(), |bytes| bytes.truncate(len as usize)));
            assert!(read_all(&store, sealed).is_err(), "cut to {len} of {size}");
        }
        whole.damage(&name(), |bytes| bytes.push(0));
        assert!(read_all(&whole, sealed).is_err());
    }
}

/// What a store may do to a pack between writing and reading it back.
struct Liar<'a> {
    inner: Box<dyn Upload + 'a>,
    flip_at: u64,
    written: u64,
}

impl Upload for Liar<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let mut bytes = bytes.to_vec();
        if let Some(byte) = self.flip_at.checked_sub(self.written).and_then(|at| bytes.get_mut(at as usize)) {
            *byte ^= 0x10;
        }
        self.written += bytes.len() as u64;
        self.inner.write(&bytes)
    }

    fn read_back(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), StoreError> {
        self.inner.read_back(offset, buf)
    }

    fn publish(self: Box<Self>, name: &ObjectName) -> Result<Published, StoreError> {
        self.inner.publish(name)
    }
}

#[test]
fn a_bit_that_flips_on_the_way_to_the_disk_is_noticed_before_the_pack_is_published() {
    for sealed in [false, true] {
        let (_, _, size, _) = sample_pack(sealed);
        for flip_at in [0, 24, 55, 56, 57, 16_455, 16_456, 600_000, size - 1] {
            let store = MemoryStore::new("memory");
            let upload = Box::new(Liar { inner: store.begin().unwrap(), flip_at, written: 0 });
            let key = key();
            let mut writer = PackWriter::new(upload, PackKind::Data, sealed.then_some((&key, CONTEXT))).unwrap();
            let pushed = chunks().iter().try_for_each(|group| writer.push(frame(group)));
            let ended = pushed.and_then(|()| writer.finish().map(drop));
            assert!(matches!(ended, Err(PackError::ReadBack)), "byte {flip_at}: {ended:?}");
            assert_eq!(store.upload_count(), 0);
        }
    }
}

#[test]
fn length_grows_with_what_is_pushed() {
    let store = MemoryStore::new("memory");
    let mut writer = PackWriter::new(store.begin().unwrap(), PackKind::Data, None).unwrap();
    let noise = frame(&[stream(1 << 20)]);
    let bytes = noise.bytes.len() as u64;
    writer.push(noise).unwrap();
    assert_eq!(writer.len(), bytes);
}

/// No more than the pieces under way is kept, whatever was pushed.
#[test]
fn a_writer_holds_no_pack() {
    let store = MemoryStore::new("memory");
    let key = key();
    let mut writer = PackWriter::new(store.begin().unwrap(), PackKind::Data, Some((&key, CONTEXT))).unwrap();
    for n in 0..24 {
        writer.push(frame(&[stream_from(n << 20, 1 << 20)])).unwrap();
        let kept = writer.pending.capacity() + writer.sealed.capacity() + writer.back.stored.capacity() + writer.back.opened.capacity();
        assert!(kept < 6 << 20, "{kept}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Sealed: nothing of it may go unnoticed. Plain: it decodes to the same chunks or is an error.
    #[test]
    fn any_flipped_bit_is_noticed(sealed: bool, at: prop::sample::Index, bit in 0..8_u32) {
        let (store, _, size, toc) = small_pack(sealed);
        let at = at.index(size as usize);
        store.damage(&name(), |bytes| bytes[at] ^= 1_u8 << bit);
        if let Ok(read) = read_all(&store, sealed) {
            prop_assert!(!sealed && read == toc, "byte {at}");
        }
    }

    #[test]
    fn any_bytes_are_no_pack(bytes in prop::collection::vec(any::<u8>(), 0..2000), sealed: bool) {
        let (store, ..) = small_pack(sealed);
        store.damage(&name(), |old| *old = bytes);
        prop_assert!(read_all(&store, sealed).is_err());
    }

    #[test]
    fn any_range_reads_the_same_sealed_and_plain(a: u64, b: u64) {
        let ring = ring();
        let (sealed, plain) = (small_pack(true).0, small_pack(false).0);
        let (sealed, plain) = (open(&sealed, true, &ring).unwrap(), open(&plain, false, &ring).unwrap());
        let len = plain.plain_len();
        prop_assert_eq!(len, sealed.plain_len());
        let (a, b) = (a % (len + 1), b % (len + 1));
        let (start, end) = (a.min(b), a.max(b));
        prop_assert_eq!(sealed.read_plain(start, end - start).unwrap(), plain.read_plain(start, end - start).unwrap());
    }
}

fn small_pack(sealed: bool) -> (MemoryStore, PackId, u64, Toc) {
    let store = MemoryStore::new("memory");
    let (id, size, toc) = write(&store, sealed, [frame(&[b"one ".repeat(3000), stream(40_000)]), frame(&[b"two".to_vec()])]);
    (store, id, size, toc)
}
