use super::{Place, at, on_each_database};
use crate::audit::{Alert, AuditLog, NewMessage};

on_each_database!(a_message_is_kept_once_and_delivered_once, what_was_told_is_forgotten_but_not_of_what_is_open_or_waits,);

fn message<'a>(key: &'a str, alert_id: &'a str, content: &'a str, channels: &'a [String]) -> NewMessage<'a> {
    NewMessage { key, alert_id, event: "failure", subject: "één €", content, channels }
}

fn raised(log: &AuditLog, kind: &str) -> String {
    let alert = Alert { project: "shop", store: "", kind, message: "m".to_owned(), hint: String::new(), exit_status: 1, run_id: "r" };
    log.raise(&alert, at(0)).unwrap();
    log.alert_history(at(0)).unwrap().into_iter().find(|row| row.kind == kind).unwrap().id
}

fn a_message_is_kept_once_and_delivered_once(place: &Place) {
    let log = place.open();
    let channels = ["email".to_owned(), "slack".to_owned()];
    let long = "é".repeat(100_000);
    assert!(log.put_message(&message("k", "", &long, &channels), at(1)).unwrap());
    assert!(!log.put_message(&message("k", "", "another", &channels), at(2)).unwrap());
    assert!(place.open_as("elsewhere").waiting_deliveries().unwrap().is_empty());
    log.close();

    let log = place.open();
    let waiting = log.waiting_deliveries().unwrap();
    assert_eq!(
        waiting.iter().map(|row| (row.channel.as_str(), row.subject.as_str())).collect::<Vec<_>>(),
        [("email", "één €"), ("slack", "één €")]
    );
    assert_eq!(log.message_content(&waiting[0].message_id).unwrap().unwrap(), long);
    assert!(log.claim_delivery(&waiting[0], at(600)).unwrap());
    assert!(!log.claim_delivery(&waiting[0], at(600)).unwrap());
    log.end_delivery(&waiting[0], "sent", "", at(3)).unwrap();
    assert!(log.claim_delivery(&waiting[1], at(600)).unwrap());
    log.retry_delivery(&waiting[1], at(60), "away").unwrap();
    let left = log.waiting_deliveries().unwrap();
    assert_eq!((left.len(), left[0].attempts, left[0].last_error.as_str(), left[0].next_try), (1, 1, "away", at(60)));
    log.postpone_deliveries("slack", at(90)).unwrap();
    assert_eq!(log.waiting_deliveries().unwrap()[0].next_try, at(90));
    log.end_delivery(&left[0], "given-up", "too old", at(100)).unwrap();
    assert!(log.waiting_deliveries().unwrap().is_empty());
    assert_eq!(log.given_up_deliveries(at(100)).unwrap()[0].last_error, "too old");
}

fn what_was_told_is_forgotten_but_not_of_what_is_open_or_waits(place: &Place) {
    let log = place.open();
    let (open, closed) = (raised(&log, "run"), raised(&log, "scrub"));
    log.resolve("shop", "", "scrub", at(5)).unwrap();
    log.put_message(&message("open", &open, "", &[]), at(1)).unwrap();
    log.put_message(&message("closed", &closed, "", &[]), at(1)).unwrap();
    log.put_message(&message("waits", "", "", &["email".to_owned()]), at(1)).unwrap();
    let told = |since| log.told(at(since)).unwrap().into_iter().map(|row| row.alert_id).collect::<Vec<_>>();
    assert_eq!(told(0).len(), 2);
    assert_eq!(told(50), [open.clone()], "of an open alert all that was told");
    assert_eq!(told(3).len(), 2, "and of one that closed since");
    log.forget_messages(at(50)).unwrap();
    assert_eq!(told(0), [open]);
    assert_eq!(log.waiting_deliveries().unwrap().len(), 1);
    assert!(log.put_message(&message("closed", &closed, "", &[]), at(60)).unwrap(), "its key is free again");
}
