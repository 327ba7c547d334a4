//! Who may write, where the server knows of no locks.

use crate::kit::{Place, Relay, vault};
use havun_vault::store::{Session, Store, StoreError};
use std::{fs, time::Duration};

#[test]
fn a_lease_that_an_outage_kept_from_being_given_back_keeps_nobody_out() {
    let place = Place::start(&[]);
    let relay = Relay::start(place.sshd.port(), Duration::ZERO);
    let root = place.root_with(|options| options.port = relay.port());
    let store = vault(&root);
    let lease = store.lease("first", false).unwrap();
    let number = lease.fencing();
    relay.cut();
    drop(lease);
    relay.mend();
    assert!(place.sshd.store().join("shop/lease").exists());
    // As the next command of the same host would.
    let store = vault(&place.root_with(|options| options.port = relay.port()));
    let lease = store.lease("second", false).unwrap();
    assert!(lease.fencing() > number);
    lease.check().unwrap();
}

#[test]
fn the_lease_of_a_dead_process_is_taken_over_and_one_of_another_machine_is_not() {
    let place = Place::start(&[]);
    let store = vault(&place.root());
    drop(store.lease("first", false).unwrap());
    let path = place.sshd.store().join("shop/lease");
    let current = Session::current().upload_name();
    let mut parts: Vec<&str> = current.split('-').collect();
    parts[4] = "1";
    let record = |session: &str| {
        format!(r#"{{"fencing":9999999999999999,"holder":"a run","host":"web-1","session":"{session}","since":1700000000,"token":"t"}}"#)
    };
    fs::write(&path, record(&parts.join("-"))).unwrap();
    let lease = store.lease("second", false).unwrap();
    assert_eq!(lease.fencing(), 10_000_000_000_000_000);
    drop(lease);
    assert!(!path.exists());
    parts[1] = "0123456789ab";
    fs::write(&path, record(&parts.join("-"))).unwrap();
    let Err(StoreError::Locked { holder }) = store.lease("third", false) else { panic!("taken over") };
    assert!(holder.contains("a run on web-1") && holder.contains("2023-11-14"), "{holder}");
    let forced = store.lease("third", true).unwrap();
    forced.check().unwrap();
    fs::remove_file(&path).unwrap();
    assert!(matches!(forced.check(), Err(StoreError::Fenced { .. })));
}

#[test]
fn a_lease_file_that_a_power_cut_left_empty_is_no_obstacle() {
    let place = Place::start(&[]);
    let store = vault(&place.root());
    drop(store.lease("first", false).unwrap());
    fs::write(place.sshd.store().join("shop/lease"), "").unwrap();
    store.lease("second", false).unwrap().check().unwrap();
}
