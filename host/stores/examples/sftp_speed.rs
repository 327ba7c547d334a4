//! Times the SFTP store: puts packs of 64 MiB cut from a file, and reads them back.
//!
//! ```text
//! sftp_speed put|get|both FILE THREADS host=… port=… user=… path=… key=FILE pin=… [connections=4] [verify=auto|size|readback] [put_once]
//! sftp_speed relay PORT MILLISECONDS
//! ```
//!
//! The second form is a long link: it prints a port of 127.0.0.1 that leads to PORT, holds every byte for half of MILLISECONDS in
//! each direction, and ends with its standard input. `tests/bench/sftp.sh` uses both.
//!
//! `FILE` is cut into packs, and each is hashed; then the time begins, connecting included. `out=FOLDER` keeps what is read. A run that ends short of 64 MiB makes a smaller last one. Objects are named by their hash, so a
//! second `put` of the same file sends nothing.

#![allow(clippy::print_stdout, clippy::expect_used, reason = "a measuring program")]

#[allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "the tests' relay; they use more of it")]
#[path = "../../../tests/src/relay.rs"]
mod relay;

use havun_model::{ProjectName, StoreName};
use havun_stores::sftp::{SftpOptions, SftpRoot, SshAuth, Timeouts, VerifyUploads};
use havun_vault::store::{ObjectName, Source, Store, StoreError};
use sha2::{Digest as _, Sha256};
use std::{
    cell::RefCell,
    collections::BTreeMap,
    fs::File,
    io::Read as _,
    os::unix::fs::FileExt,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};
use zeroize::Zeroizing;

const PACK_BYTES: u64 = 64 << 20;

thread_local! {
    /// What a thread reads into, again and again.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

struct Part<'f> {
    file: &'f File,
    start: u64,
    len: u64,
}

impl Source for Part<'_> {
    fn size(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), StoreError> {
        self.file.read_exact_at(buf, self.start + offset).map_err(|e| StoreError::at("the file".as_ref(), e))
    }
}

struct Pack {
    name: ObjectName,
    sha256: [u8; 32],
    start: u64,
    len: u64,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [what, port, round_trip] = arguments.as_slice()
        && what == "relay"
    {
        return long_link(port.parse().expect("a port"), round_trip.parse().expect("milliseconds"));
    }
    let [what, file, threads, rest @ ..] = arguments.as_slice() else { return println!("see the head of this program's source") };
    let threads: usize = threads.parse().expect("a number of threads");
    let file = File::open(file).expect("the file");
    let packs = packs(&file);
    let bytes: u64 = packs.iter().map(|pack| pack.len).sum();
    let mut start = Instant::now();
    let root = SftpRoot::new(options(rest)).expect("options");
    root.prepare(&StoreName::new("speed").expect("a name")).expect("a store");
    let store = root.vault(&ProjectName::new("speed").expect("a name"));
    if what != "get" {
        each(threads, &packs, |pack| {
            let _either = store.put(&pack.name, &Part { file: &file, start: pack.start, len: pack.len }, &pack.sha256).expect("a put");
        });
        report("up", bytes, start, root.round_trips());
    }
    if what != "put" {
        let before = root.round_trips();
        if what == "both" {
            start = Instant::now();
        }
        let out = rest.iter().find_map(|text| text.strip_prefix("out="));
        each(threads, &packs, |pack| {
            BUFFER.with_borrow_mut(|found| {
                found.resize(usize::try_from(pack.len).expect("a length"), 0);
                store.read_range(&pack.name, 0, found).expect("a read");
                assert_eq!(<[u8; 32]>::from(Sha256::digest(found.as_slice())), pack.sha256, "{}", pack.name);
                if let Some(folder) = out {
                    std::fs::write(Path::new(folder).join(pack.name.file_name()), found).expect("a file");
                }
            })
        });
        report("down", bytes, start, root.round_trips() - before);
    }
}

fn long_link(port: u16, round_trip: u64) {
    let relay = relay::Relay::start(port, Duration::from_micros(round_trip * 500));
    println!("{}", relay.port());
    let _ended = std::io::stdin().read_to_end(&mut Vec::new());
}

fn report(what: &str, bytes: u64, start: Instant, turns: u64) {
    let seconds = start.elapsed().as_secs_f64();
    println!("{what}: {bytes} bytes in {seconds:.2} s, {:.1} MB/s, {turns} turns", bytes as f64 / 1e6 / seconds);
}

fn each(threads: usize, packs: &[Pack], work: impl Fn(&Pack) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(pack) = packs.get(next.fetch_add(1, Ordering::SeqCst)) {
                    work(pack);
                }
            });
        }
    });
}

/// Hashed beforehand, as a vault's packs are.
fn packs(file: &File) -> Vec<Pack> {
    let size = file.metadata().expect("its size").len();
    let mut packs = Vec::new();
    for start in (0..size).step_by(PACK_BYTES as usize) {
        let len = PACK_BYTES.min(size - start);
        let mut bytes = vec![0; usize::try_from(len).expect("a length")];
        file.read_exact_at(&mut bytes, start).expect("its bytes");
        let sha256: [u8; 32] = Sha256::digest(&bytes).into();
        let hex = hex::encode(sha256);
        let name = ObjectName::new(format!("epochs/2026/packs/{}/{hex}", hex.get(..2).unwrap_or_default())).expect("a name");
        packs.push(Pack { name, sha256, start, len });
    }
    packs
}

fn options(arguments: &[String]) -> SftpOptions {
    let given: BTreeMap<&str, &str> = arguments.iter().map(|text| text.split_once('=').unwrap_or((text, ""))).collect();
    let text = |name: &str| given.get(name).copied().unwrap_or_default().to_owned();
    let key = std::fs::read_to_string(text("key")).expect("the key file");
    SftpOptions {
        host: text("host"),
        port: text("port").parse().expect("a port"),
        user: text("user"),
        path: text("path"),
        auth: vec![SshAuth::Key { text: Zeroizing::new(key), passphrase: None }],
        host_key: text("pin").parse().expect("a pin"),
        connections: text("connections").parse().unwrap_or(4),
        put_once: given.contains_key("put_once"),
        verify: match text("verify").as_str() {
            "size" => VerifyUploads::Size,
            "readback" => VerifyUploads::ReadBack,
            _ => VerifyUploads::Auto,
        },
        spool_dir: std::env::temp_dir().join("sftp-speed"),
        lease_name: "sftp_speed".to_owned(),
        timeouts: Timeouts::default(),
    }
}
