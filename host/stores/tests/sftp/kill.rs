//! The server killed at random moments of an upload over a long link.

use crate::kit::{Place, Relay, Sshd, options, pack, pattern, sha, store_name, vault};
use havun_stores::sftp::SftpRoot;
use havun_vault::store::{ObjectName, Store, StoreError};
use sha2::{Digest, Sha256};
use std::{
    fs,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

const CONNECTIONS: usize = 4;
/// Of an object that goes over several connections, this much is under way at most, and as much again is not believed.
const REACH: usize = 16 << 20;

type Packs = Vec<(ObjectName, Vec<u8>)>;

fn upload(root: &SftpRoot, packs: &Packs) -> Vec<Result<(), StoreError>> {
    let (store, next) = (vault(root), AtomicUsize::new(0));
    let work = || {
        let mut results = Vec::new();
        while let Some((name, bytes)) = packs.get(next.fetch_add(1, Ordering::SeqCst)) {
            results.push(store.put(name, &bytes.as_slice(), &sha(bytes)).map(drop));
        }
        results
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

/// Every file under a final name is whole.
fn assert_whole(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            assert_whole(&path);
        } else {
            let found = hex::encode(Sha256::digest(fs::read(&path).unwrap()));
            assert_eq!(path.file_name().unwrap().to_str().unwrap(), found);
        }
    }
}

/// What is sent, how often the server is killed meanwhile, and how much may be sent again.
struct Plan {
    packs: usize,
    pack_bytes: usize,
    kills: u64,
    most_again: usize,
}

/// Each over one connection.
const SMALL: Plan = Plan { packs: 5, pack_bytes: 4 << 20, kills: 10, most_again: CONNECTIONS * (4 << 20) };
/// Each over all connections; less than one pack for each connection all the same.
const LARGE: Plan = Plan { packs: 2, pack_bytes: 40 << 20, kills: 3, most_again: 2 * (2 * REACH + (1 << 20)) };

fn kills_at_random_moments(one_way: Duration, seed: u64, plan: &Plan) {
    let place = Place::start(&["ForceCommand internal-sftp"]);
    let spool = place.spool;
    let sshd = Arc::new(Mutex::new(place.sshd));
    let lock = || sshd.lock().unwrap();
    let relay = Relay::start(lock().port(), one_way);
    let root = |sshd: &Sshd| SftpRoot::new(options(sshd, relay.port(), spool.path())).unwrap();
    root(&lock()).prepare(&store_name()).unwrap();
    let store = lock().store();
    let mut failed = 0;
    for kill in 0..plan.kills {
        let packs: Packs =
            (0..plan.packs as u64).map(|n| pattern(seed + kill * 100 + n, plan.pack_bytes)).map(|bytes| (pack(&bytes), bytes)).collect();
        let root = root(&lock());
        let total = (plan.packs * plan.pack_bytes) as u64;
        let at = u64::from_le_bytes(pattern(seed + kill, 8).try_into().unwrap()) % total;
        let before = relay.up_bytes();
        let server = Arc::clone(&sshd);
        relay.at_up_bytes(before + at, move || server.lock().unwrap().kill());
        let errors = upload(&root, &packs).into_iter().filter_map(Result::err).collect::<Vec<_>>();
        relay.forget();
        assert!(errors.iter().all(StoreError::is_transient), "{errors:?}");
        failed += usize::from(!errors.is_empty());
        assert_whole(&store.join("shop/epochs"));
        lock().start_again();
        // As the next run would: the connections of the first remember for a second that they failed.
        let next = SftpRoot::new(options(&lock(), relay.port(), spool.path())).unwrap();
        let after = upload(&next, &packs);
        assert!(after.iter().all(Result::is_ok), "{after:?}");
        let again = (relay.up_bytes() - before).saturating_sub(total);
        assert!(again < plan.most_again as u64, "{again} bytes were sent again");
        assert_whole(&store.join("shop/epochs"));
        assert_eq!(vault(&next).list("epochs").unwrap().len(), plan.packs);
        fs::remove_dir_all(store.join("shop/epochs")).unwrap();
    }
    assert!(failed as u64 * 2 > plan.kills, "only {failed} of {} kills met an upload", plan.kills);
}

#[test]
fn a_server_killed_at_ten_moments_over_20_ms_loses_nothing() {
    kills_at_random_moments(Duration::from_millis(10), 1000, &SMALL);
}

#[test]
fn a_server_killed_at_ten_moments_over_50_ms_loses_nothing() {
    kills_at_random_moments(Duration::from_millis(25), 2000, &SMALL);
}

#[test]
fn a_server_killed_while_large_packs_go_over_all_connections_loses_nothing() {
    kills_at_random_moments(Duration::from_millis(10), 3000, &LARGE);
}
