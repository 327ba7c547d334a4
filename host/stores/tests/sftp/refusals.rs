//! Servers that are not there, not the right one, or not willing: a clear error at once, and nothing written.

use crate::kit::{self, Place, Relay, key, name, options, pin, sha, store_name, vault};
use havun_model::StoreName;
use havun_stores::sftp::{SftpRoot, Timeouts};
use havun_vault::store::{MARKER, Store, StoreError};
use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

fn put(root: &SftpRoot) -> Result<(), StoreError> {
    vault(root).put(&name("a"), &b"x".as_slice(), &sha(b"x")).map(drop)
}

#[test]
fn a_changed_host_key_is_a_hard_stop() {
    let mut place = Place::start(&[]);
    place.root();
    place.sshd.change_host_key();
    place.sshd.start_again();
    let mut options = place.options();
    options.host_key = pin(&place.sshd.host_key());
    SftpRoot::new(options).unwrap().check(&store_name()).unwrap();
    // What the operator pinned before is not what the server shows now.
    let mut options = place.options();
    options.host_key = pin("SHA256:XqONwb1S0zuj5A1CDxpOSuD2hnAArV1A3wKY7Z3sdgM");
    let error = put(&SftpRoot::new(options).unwrap()).unwrap_err();
    let StoreError::HostKey { found, expected, .. } = &error else { panic!("{error}") };
    assert!(found.contains("ssh-ed25519 SHA256:") && expected.starts_with("SHA256:XqON"), "{error}");
    assert!(!error.is_transient() && error.hint().unwrap().contains("stands between"));
}

#[test]
fn a_fingerprint_is_enough_to_know_a_server() {
    let place = Place::start(&[]);
    place.root();
    let line = place.sshd.host_key();
    let fingerprint = line.parse::<havun_stores::sftp::HostKeyPin>().unwrap().to_string();
    let mut options = place.options();
    options.host_key = pin(&fingerprint);
    put(&SftpRoot::new(options).unwrap()).unwrap();
}

#[test]
fn a_refused_key_is_said_and_not_tried_again() {
    let place = Place::start(&[]);
    let mut options = place.options();
    options.auth = vec![key(&place.sshd.other_key().0)];
    let error = put(&SftpRoot::new(options).unwrap()).unwrap_err();
    let StoreError::Refused { what, why, .. } = &error else { panic!("{error}") };
    assert!(what.contains("login as") && why.contains("SHA256:"), "{error}");
    let mut options = place.options();
    options.auth = vec![key(&place.sshd.other_key().0), key(&place.sshd.client_key())];
    SftpRoot::new(options).unwrap().prepare(&store_name()).unwrap();
}

#[test]
fn a_key_that_is_none_is_said() {
    let place = Place::start(&[]);
    let mut options = place.options();
    options.auth = vec![key("no key at all")];
    let error = put(&SftpRoot::new(options).unwrap()).unwrap_err();
    assert!(error.to_string().contains("cannot be read"), "{error}");
}

#[test]
fn nobody_at_the_port_is_unreachable() {
    let place = Place::start(&[]);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let root = SftpRoot::new(options(&place.sshd, port, place.spool.path())).unwrap();
    let error = put(&root).unwrap_err();
    assert!(matches!(error, StoreError::Unreachable { .. }) && error.is_transient(), "{error}");
    assert!(!vault(&root).promises().durable_file && vault(&root).notes()[0].contains("reached"));
}

#[test]
fn a_server_that_says_nothing_is_given_up_after_the_time_for_it() {
    let place = Place::start(&[]);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut options = options(&place.sshd, silent.local_addr().unwrap().port(), place.spool.path());
    options.timeouts = Timeouts { connect: Duration::from_millis(200), reconnect_pause: Duration::from_millis(10), ..Timeouts::default() };
    let start = Instant::now();
    let error = put(&SftpRoot::new(options).unwrap()).unwrap_err();
    assert!(matches!(error, StoreError::Unreachable { .. }), "{error}");
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_link_that_hangs_is_given_up_and_made_anew() {
    let place = Place::start(&[]);
    let relay = Relay::start(place.sshd.port(), Duration::ZERO);
    let root = place.root_with(|options| {
        options.port = relay.port();
        let timeouts = Timeouts { stall: Duration::from_millis(400), connect: Duration::from_millis(500), ..options.timeouts };
        options.timeouts = timeouts;
    });
    put(&root).unwrap();
    relay.hang();
    let start = Instant::now();
    let bytes = kit::pattern(1, 30_000_000);
    let error = vault(&root).put(&kit::pack(&bytes), &bytes.as_slice(), &sha(&bytes)).unwrap_err();
    assert!(matches!(error, StoreError::Unreachable { .. }), "{error}");
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    relay.mend();
    vault(&root).size(&name("a")).or_else(|_| vault(&root).size(&name("a"))).unwrap();
}

#[test]
fn a_server_that_forbids_renames_says_what_to_set() {
    let place = Place::start(&["ForceCommand internal-sftp -P rename,posix-rename"]);
    place.root_with(|options| options.put_once = true);
    let root = SftpRoot::new(place.options()).unwrap();
    for error in [put(&root).unwrap_err(), vault(&root).lease("me", false).map(drop).unwrap_err()] {
        assert!(matches!(error, StoreError::Refused { .. }), "{error}");
        assert!(error.hint().unwrap().contains("put_once = true"));
    }
    assert!(vault(&root).list("").unwrap().is_empty());
}

#[test]
fn a_locked_server_that_is_not_configured_so_says_what_to_set() {
    let place = Place::locked();
    place.root_with(|options| options.put_once = true);
    let error = put(&SftpRoot::new(place.options()).unwrap()).unwrap_err();
    assert!(matches!(error, StoreError::Refused { .. }) && error.hint().unwrap().contains("put_once = true"), "{error}");
}

#[test]
fn a_folder_without_a_marker_and_one_of_another_store_are_refused() {
    let place = Place::start(&[]);
    let root = SftpRoot::new(place.options()).unwrap();
    assert!(matches!(put(&root), Err(StoreError::NoMarker { .. })));
    assert!(matches!(root.check(&store_name()), Err(StoreError::NoMarker { .. })));
    root.prepare(&StoreName::new("hot").unwrap()).unwrap();
    root.prepare(&StoreName::new("hot").unwrap()).unwrap();
    let error = root.prepare(&store_name()).unwrap_err();
    assert!(matches!(&error, StoreError::WrongMarker { found, expected, .. } if found == "hot" && expected == "offsite"), "{error}");
    let text = std::fs::read_to_string(place.sshd.store().join(MARKER)).unwrap();
    assert!(text.contains("\"store\":\"hot\""), "{text}");
}

#[test]
fn a_full_disk_and_a_missing_folder_are_told_apart_from_each_other() {
    let place = Place::start(&[]);
    let root = place.root();
    put(&root).unwrap();
    std::fs::remove_dir_all(place.sshd.store()).unwrap();
    // The disk went away under a store that was seen before: nothing is made on the one beneath it.
    assert!(put(&root).is_err());
    assert!(!place.sshd.store().exists());
}
