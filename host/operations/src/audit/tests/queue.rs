use super::{Place, at, on_each_database};
use crate::audit::QueueRow;

on_each_database!(the_queue_survives_a_restart_and_is_of_one_host);

fn row(store: &str, attempts: u32) -> QueueRow {
    QueueRow {
        project: "shop".to_owned(),
        store: store.to_owned(),
        since: at(0),
        attempts,
        last_try: at(10),
        next_try: at(310),
        last_error: "store `x` cannot be used: away".to_owned(),
        pending_objects: Some(3),
        pending_bytes: None,
    }
}

fn the_queue_survives_a_restart_and_is_of_one_host(place: &Place) {
    let log = place.open();
    log.put_queue(&row("b", 1)).unwrap();
    log.put_queue(&row("B", 1)).unwrap();
    log.put_queue(&row("a", 1)).unwrap();
    log.put_queue(&row("b", 2)).unwrap();
    log.put_queue(&row("b", 2)).unwrap();
    log.close();

    let log = place.open();
    assert_eq!(log.queue().unwrap(), [row("B", 1), row("a", 1), row("b", 2)]);
    assert!(place.open_as("elsewhere").queue().unwrap().is_empty());
    assert!(log.leave_queue("shop", "a").unwrap());
    assert!(!log.leave_queue("shop", "a").unwrap());
    assert_eq!(log.queue().unwrap(), [row("B", 1), row("b", 2)]);
}
