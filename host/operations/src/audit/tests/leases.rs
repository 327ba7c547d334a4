use super::{Place, at, end, on_each_database, start};
use crate::audit::{AuditLog, Claim, Lease, Wanted, args};
use std::{
    sync::{Barrier, Mutex},
    time::Duration,
};

on_each_database!(
    one_host_at_a_time_and_a_moment_of_the_schedule_once,
    a_lease_that_expired_is_taken_over_and_its_old_holder_finds_out,
    a_dead_process_of_this_host_is_not_waited_for,
    force_takes_a_lease_from_whoever_holds_it,
    of_many_hosts_at_once_each_moment_is_served_by_one,
);

const TTL: Duration = Duration::from_secs(60);

fn wanted(run_id: &str, slot: i64) -> Wanted<'_> {
    Wanted { project: "shop", run_id, slot: Some(at(slot)), ttl: TTL, force: false }
}

fn mine(claim: Claim) -> Lease {
    match claim {
        Claim::Mine(lease) => lease,
        other => panic!("{other:?}"),
    }
}

fn holder(claim: Claim) -> String {
    match claim {
        Claim::Held { host, .. } => format!("held by {host}"),
        Claim::Done { host, .. } => format!("done by {host}"),
        Claim::Mine(_) => "mine".to_owned(),
    }
}

/// As if its holder had not renewed it for a long time.
fn expire(log: &AuditLog) {
    log.execute("UPDATE run_leases SET expires_ms = 1", args![]).unwrap();
}

fn one_host_at_a_time_and_a_moment_of_the_schedule_once(place: &Place) {
    let (a, b) = (place.open_as("a"), place.open_as("b"));
    let lease = mine(a.claim(&wanted("run-1", 0), at(1)).unwrap());
    assert_eq!(holder(b.claim(&wanted("run-2", 0), at(1)).unwrap()), "held by a");
    assert_eq!(holder(a.claim(&wanted("run-3", 0), at(1)).unwrap()), "held by a", "another run of the same process");
    assert!(a.renew(&lease, at(2)).unwrap());
    a.release(&lease, false, at(3)).unwrap();
    let again = mine(b.claim(&wanted("run-4", 0), at(4)).unwrap());
    assert_eq!(again.taken_over_from, None, "one that failed may be tried by another host");
    b.release(&again, true, at(5)).unwrap();
    assert_eq!(holder(a.claim(&wanted("run-5", 0), at(6)).unwrap()), "done by b");
    assert_eq!(holder(a.claim(&wanted("run-5", -100), at(6)).unwrap()), "done by b", "nor an earlier one");
    let by_hand = mine(a.claim(&Wanted { slot: None, ..wanted("run-6", 0) }, at(6)).unwrap());
    a.release(&by_hand, true, at(7)).unwrap();
    let other = Wanted { project: "Shop", ..wanted("run-7", 0) };
    let _other = mine(b.claim(&other, at(7)).unwrap());
    let _next = mine(a.claim(&wanted("run-8", 10), at(11)).unwrap());
}

fn a_lease_that_expired_is_taken_over_and_its_old_holder_finds_out(place: &Place) {
    let (a, b) = (place.open_as("a"), place.open_as("b"));
    let old = mine(a.claim(&wanted("run-0", 0), at(0)).unwrap());
    let row = a.begin_backup(&super::LogStart { host: "a".to_owned(), ..start("shop", 0) }).unwrap();
    expire(&b);
    let new = mine(b.claim(&wanted("run-1", 0), at(1)).unwrap());
    assert_eq!(new.taken_over_from.as_deref(), Some("a"));
    let rows = b.logs(Some("shop"), 10).unwrap();
    assert_eq!(rows[0].status, "interrupted");
    assert!(rows[0].message.contains("host `a` ended without completing"), "{}", rows[0].message);

    assert!(!a.renew(&old, at(2)).unwrap());
    assert!(a.lease_holder("shop", at(2)).unwrap().unwrap().starts_with("host `b` (process "));
    a.release(&old, true, at(2)).unwrap();
    assert_eq!(holder(a.claim(&wanted("run-2", 0), at(2)).unwrap()), "held by b", "who lost it gives nothing back");
    a.end(row, &end("failed", 2)).unwrap();
    assert_eq!(a.logs(Some("shop"), 10).unwrap()[0].status, "failed");
    b.release(&new, true, at(3)).unwrap();
    assert_eq!(a.lease_holder("shop", at(3)).unwrap(), None);
    assert_eq!(holder(a.claim(&wanted("run-3", 0), at(3)).unwrap()), "done by b");
}

fn a_dead_process_of_this_host_is_not_waited_for(place: &Place) {
    let (a, b) = (place.open_as("a"), place.open_as("b"));
    let _dead = mine(a.claim(&wanted("run-0", 0), at(0)).unwrap());
    a.execute("UPDATE run_leases SET process_key = 'another life'", args![]).unwrap();
    assert_eq!(holder(b.claim(&wanted("run-1", 0), at(1)).unwrap()), "held by a", "another host cannot know");
    assert_eq!(mine(a.claim(&wanted("run-2", 0), at(1)).unwrap()).taken_over_from.as_deref(), Some("a"));
}

fn force_takes_a_lease_from_whoever_holds_it(place: &Place) {
    let (a, b) = (place.open_as("a"), place.open_as("b"));
    let old = mine(a.claim(&wanted("run-0", 0), at(0)).unwrap());
    let by_force = Wanted { force: true, slot: None, ..wanted("run-1", 0) };
    let new = mine(b.claim(&by_force, at(1)).unwrap());
    assert_eq!((a.renew(&old, at(2)).unwrap(), b.renew(&new, at(2)).unwrap()), (false, true));
}

fn of_many_hosts_at_once_each_moment_is_served_by_one(place: &Place) {
    const HOSTS: usize = 4;
    const MOMENTS: i64 = 15;
    let (served, together) = (Mutex::new(Vec::new()), Barrier::new(HOSTS));
    drop(place.open());
    std::thread::scope(|scope| {
        for number in 0..HOSTS {
            let (served, together) = (&served, &together);
            scope.spawn(move || {
                let host = format!("host-{number}");
                let log = place.open_as(&host);
                for moment in 0..MOMENTS {
                    together.wait();
                    if let Claim::Mine(lease) = log.claim(&wanted(&format!("{host}-{moment}"), moment), at(moment)).unwrap() {
                        served.lock().unwrap().push(moment);
                        log.release(&lease, true, at(moment)).unwrap();
                    }
                }
            });
        }
    });
    assert_eq!(served.into_inner().unwrap(), (0..MOMENTS).collect::<Vec<_>>());
}

#[test]
fn in_a_file_a_lease_expires_by_the_clock_of_its_caller() {
    let place = Place::sqlite();
    let (a, b) = (place.open_as("a"), place.open_as("b"));
    let lease = mine(a.claim(&wanted("run-0", 0), at(0)).unwrap());
    assert!(a.renew(&lease, at(30)).unwrap());
    assert_eq!(holder(b.claim(&wanted("run-1", 0), at(89)).unwrap()), "held by a");
    let _taken = mine(b.claim(&wanted("run-1", 0), at(90)).unwrap());
}

#[test]
fn on_a_server_a_lease_expires_by_the_clock_of_the_server() {
    for place in [Place::mariadb(), Place::postgresql()] {
        let (a, b) = (place.open_as("a"), place.open_as("b"));
        let _lease = mine(a.claim(&wanted("run-0", 0), at(0)).unwrap());
        let fast_by_a_year = at(365 * 86_400);
        assert_eq!(holder(b.claim(&wanted("run-1", 0), fast_by_a_year).unwrap()), "held by a");
        let brief = Wanted { ttl: Duration::ZERO, force: true, ..wanted("run-2", 0) };
        let _brief = mine(b.claim(&brief, at(0)).unwrap());
        let _taken = mine(a.claim(&wanted("run-3", 0), at(-86_400)).unwrap());
    }
}

#[test]
fn the_runs_of_a_host_that_died_are_seen_by_another_one() {
    for place in [Place::mariadb(), Place::postgresql()] {
        let (a, b) = (place.open_as("a"), place.open_as("b"));
        let _lease = mine(a.claim(&wanted("run-0", 0), at(0)).unwrap());
        let _row = a.begin_backup(&super::LogStart { host: "a".to_owned(), ..start("shop", 0) }).unwrap();
        let status = || place.open_as("b").logs(Some("shop"), 1).unwrap().remove(0).status;
        assert_eq!(status(), "running");
        expire(&b);
        assert_eq!(status(), "interrupted");
    }
}
