use super::*;
use crate::store::{MARKER, Published, conformance};
use havun_model::{ProjectName, StoreName};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

fn name(text: &str) -> ObjectName {
    ObjectName::new(text).unwrap()
}

fn store_name(text: &str) -> StoreName {
    StoreName::new(text).unwrap()
}

fn store(folder: &Path) -> LocalStore {
    LocalRoot::create(folder, &store_name("hot")).unwrap().vault(&ProjectName::new("shop").unwrap())
}

fn put(store: &LocalStore, at: &str, bytes: &[u8]) -> Result<Published, StoreError> {
    let mut upload = store.begin()?;
    upload.write(bytes)?;
    upload.publish(&name(at))
}

#[test]
fn it_passes_the_conformance_suite() {
    let folder = tempfile::tempdir().unwrap();
    let problems = conformance::problems(&store(folder.path()));
    assert!(problems.is_empty(), "{problems:#?}");
}

#[test]
fn a_folder_without_the_marker_is_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let error = LocalStore::open_root(folder.path()).unwrap_err();
    assert!(error.to_string().contains(MARKER), "{error}");
    assert!(error.hint().unwrap().contains("mounted"));
    assert!(matches!(LocalStore::open_root(&folder.path().join("gone")), Err(StoreError::NoMarker { .. })));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_disk_that_is_unmounted_meanwhile_is_noticed_by_the_next_write() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    put(&store, "a", b"x").unwrap();
    fs::remove_file(folder.path().join(MARKER)).unwrap();
    assert!(matches!(store.begin().map(|_| ()), Err(StoreError::NoMarker { .. })));
    assert!(matches!(store.lease("me", false).map(|_| ()), Err(StoreError::NoMarker { .. })));
}

#[test]
fn a_marker_names_its_store_for_good() {
    let folder = tempfile::tempdir().unwrap();
    let first = LocalRoot::create(folder.path(), &store_name("hot")).unwrap();
    let again = LocalRoot::create(folder.path(), &store_name("hot")).unwrap();
    assert_eq!(first, again);
    assert_eq!(again.name(), "hot");
    let other = LocalRoot::create(folder.path(), &store_name("archive")).unwrap_err();
    assert!(matches!(other, StoreError::WrongMarker { ref found, .. } if found == "hot"), "{other}");
    assert!(first.named(&store_name("archive")).is_err());
}

#[test]
fn nothing_is_made_before_the_first_write() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    assert!(store.list("").unwrap().is_empty() && store.size(&name("vault.json")).unwrap().is_none());
    assert_eq!(store.remove_stale_uploads(Duration::ZERO).unwrap(), 0);
    assert!(!store.path().exists());
}

#[test]
fn objects_and_folders_are_for_their_owner_only() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    put(&store, "epochs/2026/index/x", b"x").unwrap();
    let mode = |path: &str| fs::metadata(store.path().join(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("epochs/2026/index"), mode("epochs/2026/index/x")), (0o700, 0o600));
    assert_eq!(fs::metadata(store.path().join("epochs/2026/index/x")).unwrap().nlink(), 1, "the temporary name is gone");
    assert_eq!(fs::read_dir(store.path().join("tmp")).unwrap().count(), 0);
}

#[test]
fn equal_sizes_are_not_enough_to_be_the_same_object() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    put(&store, "a", &[1; 200_000]).unwrap();
    let mut other = vec![1; 200_000];
    other[199_999] = 2;
    assert!(matches!(put(&store, "a", &other), Err(StoreError::Conflict { .. })));
    assert_eq!(put(&store, "a", &[1; 200_000]).unwrap(), Published::AlreadyThere);
}

#[test]
fn uploads_of_dead_sessions_go_at_once_and_unknown_ones_with_age() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let live = store.begin().unwrap();
    let current = Session::current().upload_name();
    let mut parts: Vec<&str> = current.split('-').collect();
    parts[4] = "1";
    let dead = parts.join("-");
    parts[1] = "0123456789ab";
    let elsewhere = parts.join("-");
    for file in [&dead, &elsewhere] {
        fs::write(store.tmp().join(file), "left").unwrap();
    }
    assert_eq!(store.remove_stale_uploads(Duration::from_secs(3600)).unwrap(), 1);
    assert!(!store.tmp().join(&dead).exists() && store.tmp().join(&elsewhere).exists());
    assert_eq!(store.remove_stale_uploads(Duration::ZERO).unwrap(), 1);
    assert_eq!(live.publish(&name("a")).unwrap(), Published::New);
}

#[test]
fn what_is_no_regular_file_is_no_object() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    put(&store, "dir/real", b"x").unwrap();
    std::os::unix::fs::symlink("real", store.path().join("dir/link")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, store.path().join("dir/fifo"), rustix::fs::FileType::Fifo, Mode::RWXU, 0).unwrap();
    fs::write(store.path().join("dir/no object"), "x").unwrap();
    for text in ["dir/link", "dir/fifo", "dir"] {
        assert!(store.read(&name(text), 10).is_err(), "{text}");
        assert!(store.size(&name(text)).is_err(), "{text}");
    }
    assert_eq!(store.list("").unwrap().into_iter().map(|l| l.name).collect::<Vec<_>>(), [name("dir/real")]);
}

#[test]
fn a_lease_file_that_a_power_cut_left_empty_is_no_obstacle() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    drop(store.lease("first", false).unwrap());
    fs::write(store.path().join("lease"), "").unwrap();
    let lease = store.lease("second", false).unwrap();
    lease.check().unwrap();
    fs::remove_file(store.path().join("lease")).unwrap();
    assert!(matches!(lease.check(), Err(StoreError::Fenced { .. })));
}

#[test]
fn a_lease_is_of_one_vault_and_says_who_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let other = LocalStore::open_root(folder.path()).unwrap().vault(&ProjectName::new("blog").unwrap());
    let _lease = store.lease("havun-backup run", false).unwrap();
    assert!(other.lease("havun-backup run", false).is_ok());
    let Err(StoreError::Locked { holder }) = store.lease("me", false) else { panic!("two leases") };
    assert!(holder.contains("havun-backup run (process ") && holder.contains(" UTC"), "{holder}");
}

#[test]
fn many_threads_that_want_the_lease_get_it_one_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let held = std::sync::atomic::AtomicU64::new(0);
    let mut numbers: Vec<u64> = std::thread::scope(|scope| {
        let take = || {
            let mut numbers = Vec::new();
            for _ in 0..50 {
                if let Ok(lease) = store.lease("thread", false) {
                    assert_eq!(held.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                    lease.check().unwrap();
                    numbers.push(lease.fencing());
                    held.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                }
            }
            numbers
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    numbers.sort_unstable();
    let count = numbers.len();
    numbers.dedup();
    assert!(count > 0 && numbers.len() == count, "every lease has a number of its own");
}
