use super::{Place, at, on_each_database};
use havun_model::erasures::{Erasure, Withdrawal};

on_each_database!(an_erasure_is_added_once_and_withdrawn_once);

fn erasure(id: &str, second: i64) -> Erasure {
    let subject = "ab".repeat(32).parse().unwrap();
    Erasure { id: id.to_owned(), created: at(second), by: "root".to_owned(), subject, note: "art. 17".to_owned() }
}

fn an_erasure_is_added_once_and_withdrawn_once(place: &Place) {
    let log = place.open();
    log.add_erasure("shop", &erasure("two", 2)).unwrap();
    log.add_erasure("shop", &erasure("one", 1)).unwrap();
    log.add_erasure("shop", &erasure("one", 1)).unwrap();
    log.add_erasure("blog", &erasure("three", 1)).unwrap();
    let first = Withdrawal { erasure: "one".to_owned(), at: at(5), by: "root".to_owned(), reason: "mistaken".to_owned() };
    log.withdraw_erasure("shop", &first).unwrap();
    log.withdraw_erasure("shop", &Withdrawal { at: at(6), ..first.clone() }).unwrap();
    assert_eq!(log.erasures("shop").unwrap(), [(erasure("one", 1), Some(first)), (erasure("two", 2), None)]);
}
