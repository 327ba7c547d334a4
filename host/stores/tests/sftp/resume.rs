//! What was sent before a link broke is not sent again, and is not believed without proof.

use crate::kit::{Place, Relay, pack, pattern, sha, vault};
use havun_stores::sftp::SftpRoot;
use havun_vault::store::{Published, Source, Store, StoreError};
use std::{
    fs,
    io::{Read, Seek, SeekFrom, Write},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

const SIZE: usize = 40 << 20;
/// At most 16 MiB are under way over all connections, so that what lies below has arrived when this is read; as much again is
/// not believed of an object that goes over several.
const CUT_AT: u64 = 36 << 20;
const ARRIVED: u64 = 20 << 20;
const BELIEVED: u64 = 4 << 20;

/// Cuts the link when it is read beyond [`CUT_AT`].
struct Cutting {
    bytes: Vec<u8>,
    relay: Arc<Relay>,
}

impl Source for Cutting {
    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), StoreError> {
        if offset >= CUT_AT {
            self.relay.cut();
        }
        self.bytes.as_slice().read_at(offset, buf)
    }
}

struct HalfSent {
    _place: Place,
    relay: Arc<Relay>,
    root: SftpRoot,
    bytes: Vec<u8>,
    /// Where it lies on the server.
    half: PathBuf,
}

fn half_sent(lines: &[&str]) -> HalfSent {
    let place = Place::start(lines);
    let relay = Arc::new(Relay::start(place.sshd.port(), Duration::from_millis(2)));
    let root = place.root_with(|options| options.port = relay.port());
    let bytes = pattern(7, SIZE);
    let source = Cutting { bytes: bytes.clone(), relay: Arc::clone(&relay) };
    let put = vault(&root).put(&pack(&bytes), &source, &sha(&bytes));
    assert!(matches!(put, Err(StoreError::Unreachable { .. })), "{put:?}");
    relay.mend();
    let half = place.sshd.store().join(format!("shop/tmp/put-{}", hex::encode(sha(&bytes))));
    assert!(fs::metadata(&half).unwrap().len() >= ARRIVED);
    assert_eq!(vault(&root).size(&pack(&bytes)).unwrap(), None, "no name before it is whole");
    HalfSent { _place: place, relay, root, bytes, half }
}

/// Bytes that it took to finish.
fn finish(sent: &HalfSent) -> u64 {
    let before = sent.relay.up_bytes();
    let (store, bytes) = (vault(&sent.root), &sent.bytes);
    assert_eq!(store.put(&pack(bytes), &bytes.as_slice(), &sha(bytes)).unwrap(), Published::New);
    let mut found = vec![0; SIZE];
    store.read_range(&pack(bytes), 0, &mut found).unwrap();
    assert!(found == *bytes && !sent.half.exists());
    sent.relay.up_bytes() - before
}

#[test]
fn a_half_sent_pack_is_gone_on_with() {
    // With sha256sum on the server, and by reading back where there is none.
    for lines in [&[][..], &["ForceCommand internal-sftp"][..]] {
        let sent = half_sent(lines);
        let took = finish(&sent);
        assert!(took < SIZE as u64 - BELIEVED + (1 << 20), "{took}");
    }
}

#[test]
fn a_half_sent_pack_that_was_damaged_is_sent_anew() {
    for lines in [&[][..], &["ForceCommand internal-sftp"][..]] {
        let sent = half_sent(lines);
        let mut file = fs::File::options().read(true).write(true).open(&sent.half).unwrap();
        let mut byte = [0];
        file.seek(SeekFrom::Start(5000)).unwrap();
        file.read_exact(&mut byte).unwrap();
        file.seek(SeekFrom::Start(5000)).unwrap();
        file.write_all(&[byte[0] ^ 1]).unwrap();
        assert!(finish(&sent) > SIZE as u64);
    }
}

#[test]
fn a_temporary_file_that_is_too_long_is_sent_anew() {
    let place = Place::start(&[]);
    let store = vault(&place.root());
    for len in [5000, 500_000] {
        let bytes = pattern(9, len);
        let tmp = place.sshd.store().join("shop/tmp");
        fs::create_dir_all(&tmp).unwrap();
        fs::write(tmp.join(format!("put-{}", hex::encode(sha(&bytes)))), pattern(10, len + 1)).unwrap();
        assert_eq!(store.put(&pack(&bytes), &bytes.as_slice(), &sha(&bytes)).unwrap(), Published::New);
        assert_eq!(store.size(&pack(&bytes)).unwrap(), Some(len as u64));
    }
}

#[test]
fn a_link_that_drops_at_99_percent_leaves_no_short_file_under_the_final_name() {
    let place = Place::start(&[]);
    let relay = Arc::new(Relay::start(place.sshd.port(), Duration::from_millis(2)));
    let root = place.root_with(|options| options.port = relay.port());
    let bytes = pattern(9, SIZE);
    let cut = Arc::clone(&relay);
    relay.at_up_bytes(relay.up_bytes() + SIZE as u64 * 99 / 100, move || cut.cut());
    let put = vault(&root).put(&pack(&bytes), &bytes.as_slice(), &sha(&bytes));
    assert!(matches!(put, Err(StoreError::Unreachable { .. })), "{put:?}");
    relay.mend();
    assert_eq!(vault(&root).size(&pack(&bytes)).unwrap(), None);
    let before = relay.up_bytes();
    assert_eq!(vault(&root).put(&pack(&bytes), &bytes.as_slice(), &sha(&bytes)).unwrap(), Published::New);
    let mut found = vec![0; SIZE];
    vault(&root).read_range(&pack(&bytes), 0, &mut found).unwrap();
    assert!(found == bytes && relay.up_bytes() - before < SIZE as u64 - BELIEVED, "what had arrived is not sent again");
}
