use super::{Place, at, on_each_database};
use crate::audit::Alert;

on_each_database!(an_open_alert_is_counted_and_a_resolved_one_kept);

fn alert(store: &'static str, message: &str) -> Alert<'static> {
    let (message, hint) = (message.to_owned(), "do this".to_owned());
    Alert { project: "shop", store, kind: "replication", message, hint, exit_status: 10, run_id: "r" }
}

fn an_open_alert_is_counted_and_a_resolved_one_kept(place: &Place) {
    let log = place.open();
    log.raise(&alert("a", "away"), at(0)).unwrap();
    log.raise(&alert("a", "still away"), at(1)).unwrap();
    log.raise(&alert("b", "full"), at(2)).unwrap();
    let open = log.alerts(true, 10).unwrap();
    let told: Vec<_> = open.iter().map(|row| (row.store.as_str(), row.message.as_str(), row.times)).collect();
    assert_eq!(told, [("b", "full", 1), ("a", "still away", 2)]);
    assert!(log.resolve("shop", "a", "replication", at(3)).unwrap());
    assert!(!log.resolve("shop", "a", "replication", at(4)).unwrap());
    log.raise(&alert("a", "away again"), at(5)).unwrap();
    assert_eq!(log.alerts(true, 10).unwrap().len(), 2);
    assert_eq!(log.alerts(false, 10).unwrap().len(), 3, "history stays");
    assert!(place.open_as("elsewhere").alerts(false, 10).unwrap().is_empty(), "each host has its own");
}
