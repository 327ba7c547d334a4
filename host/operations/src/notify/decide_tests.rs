use super::*;

const REMIND: SignedDuration = SignedDuration::from_hours(24);

fn minute(minute: i64) -> Timestamp {
    Timestamp::from_second(1_763_600_000 + minute * 60).unwrap()
}

fn text(at: i64) -> String {
    minute(at).strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

fn alert(kind: &str, raised: i64, resolved: Option<i64>) -> AlertRow {
    AlertRow {
        id: format!("{kind}-{raised}"),
        project: "shop".to_owned(),
        store: String::new(),
        kind: kind.to_owned(),
        message: "m".to_owned(),
        hint: String::new(),
        exit_status: 1,
        run_id: String::new(),
        raised_at: text(raised),
        last_seen: text(raised),
        times: 1,
        resolved_at: resolved.map(text),
    }
}

/// What is told when a tick comes each minute and the alerts happen as `episodes` say, from minute 0 until `end`.
fn told_over(episodes: &[AlertRow], end: i64, severity: Severity) -> Vec<(i64, Event)> {
    let mut told: Vec<ToldRow> = Vec::new();
    let mut events = Vec::new();
    for now in 0..=end {
        let as_of = |alert: &AlertRow| {
            let mut seen = alert.clone();
            seen.resolved_at = seen.resolved_at.filter(|at| *at <= text(now));
            (alert.raised_at <= text(now)).then_some(seen)
        };
        let history: Vec<AlertRow> = episodes.iter().filter_map(as_of).collect();
        for tell in decide(&history, &told, |_| severity, REMIND, minute(now)) {
            told.push(ToldRow { alert_id: tell.alert.id.clone(), event: tell.event.word().to_owned(), at: minute(now) });
            events.push((now, tell.event));
        }
    }
    events
}

#[test]
fn an_alert_is_told_once_and_its_end_once() {
    let episodes = [alert("run", 5, Some(90))];
    assert_eq!(told_over(&episodes, 600, Severity::Critical), [(5, Event::Failure), (90, Event::Recovery)]);
}

#[test]
fn what_is_critical_and_stays_wrong_is_told_again_each_day_and_a_warning_is_not() {
    let episodes = [alert("run", 0, None)];
    let day = 24 * 60;
    let critical = [(0, Event::Failure), (day, Event::Reminder), (2 * day, Event::Reminder)];
    assert_eq!(told_over(&episodes, 3 * day - 1, Severity::Critical), critical);
    assert_eq!(told_over(&episodes, 3 * day - 1, Severity::Warning), [(0, Event::Failure)]);
}

#[test]
fn an_alert_that_was_right_again_before_anybody_looked_is_not_told() {
    let (history, told) = ([alert("run", 1, Some(2))], []);
    assert_eq!(decide(&history, &told, |_| Severity::Critical, REMIND, minute(3)), []);
}

#[test]
fn one_that_comes_and_goes_is_told_as_flapping_once_and_then_when_it_is_stable() {
    let episodes: Vec<_> = (0..20).map(|n| alert("replication", n * 30, Some(n * 30 + 10))).collect();
    let events = told_over(&episodes, 19 * 30 + 10 + 6 * 60 + 5, Severity::Critical);
    let first = [Event::Failure, Event::Recovery];
    let expected: Vec<Event> = first.iter().cycle().take(2 * FLAPS).copied().chain([Event::Flapping, Event::Recovery]).collect();
    assert_eq!(events.iter().map(|(_, event)| *event).collect::<Vec<_>>(), expected);
    assert_eq!(events.last().unwrap().0, 19 * 30 + 10 + 6 * 60, "six hours after the last change");
}

#[test]
fn one_that_flaps_and_then_stays_wrong_is_told_as_wrong() {
    let mut episodes: Vec<_> = (0..4).map(|n| alert("run", n * 30, Some(n * 30 + 10))).collect();
    episodes.push(alert("run", 120, None));
    let events = told_over(&episodes, 120 + 6 * 60, Severity::Critical);
    assert_eq!(events.last().unwrap(), &(120 + 6 * 60, Event::Failure));
    assert_eq!(events.iter().filter(|(_, event)| *event == Event::Flapping).count(), 1);
}

#[test]
fn after_it_was_stable_a_new_failure_is_told_as_such() {
    let mut episodes: Vec<_> = (0..5).map(|n| alert("run", n * 30, Some(n * 30 + 10))).collect();
    episodes.push(alert("run", 130 + 7 * 60, Some(130 + 8 * 60)));
    let events = told_over(&episodes, 130 + 9 * 60, Severity::Critical);
    let last: Vec<Event> = events.iter().rev().take(4).rev().map(|(_, event)| *event).collect();
    assert_eq!(last, [Event::Flapping, Event::Recovery, Event::Failure, Event::Recovery]);
}

#[test]
fn a_failure_each_day_is_no_flapping() {
    let episodes: Vec<_> = (0..14).map(|n| alert("run", n * 1440, Some(n * 1440 + 60))).collect();
    let events = told_over(&episodes, 14 * 1440, Severity::Critical);
    assert_eq!(events.len(), 28);
    assert!(events.iter().all(|(_, event)| *event != Event::Flapping));
}

#[test]
fn however_often_it_comes_and_goes_a_day_brings_few_messages() {
    for pause in [7, 20, 55] {
        let episodes: Vec<_> = (0..1440 / (2 * pause)).map(|n| alert("health", n * 2 * pause, Some(n * 2 * pause + pause))).collect();
        assert!(told_over(&episodes, 1440, Severity::Critical).len() <= 2 * FLAPS + 2, "every {pause} minutes");
    }
}

#[test]
fn health_says_nothing_of_what_another_alert_tells_already() {
    let run = alert("run", 0, Some(200));
    let mut health = alert("health", 60, None);
    (health.last_seen, health.times) = (text(180), 3);
    let told = [ToldRow { alert_id: run.id.clone(), event: "failure".to_owned(), at: minute(0) }];
    let events = |history: &[AlertRow], now| {
        decide(history, &told, |_| Severity::Critical, REMIND, minute(now))
            .iter()
            .map(|tell| (tell.alert.kind.clone(), tell.event))
            .collect::<Vec<_>>()
    };
    // The run is right again; health has not looked since.
    assert_eq!(events(&[run.clone(), health.clone()], 201), [("run".to_owned(), Event::Recovery)]);
    // It looks, and finds something else.
    health.last_seen = text(240);
    assert_eq!(events(&[run, health], 241), [("run".to_owned(), Event::Recovery), ("health".to_owned(), Event::Failure)]);
}

/// What is told of these alerts, all of them open since their minutes.
fn told_of(alerts: &[(&str, &str, i64)]) -> Vec<String> {
    let alert = |(kind, store, at): &(&str, &str, i64)| AlertRow { store: (*store).to_owned(), ..alert(kind, *at, None) };
    let history: Vec<AlertRow> = alerts.iter().map(alert).collect();
    decide(&history, &[], |_| Severity::Critical, REMIND, minute(100)).iter().map(|tell| tell.alert.kind.clone()).collect()
}

#[test]
fn one_cause_is_one_message_whoever_finds_it_first() {
    assert_eq!(told_of(&[("run", "", 0), ("age", "", 60)]), ["run"]);
    assert_eq!(
        told_of(&[("run", "", 0), ("replication", "far", 1), ("age", "", 60), ("missed", "", 61)]),
        ["run", "replication", "missed"]
    );
    assert_eq!(told_of(&[("replication", "far", 0), ("store", "far", 10), ("lag", "far", 11), ("age", "", 12)]), ["replication"]);
    assert_eq!(told_of(&[("store", "far", 0), ("replication", "far", 10)]), ["store"]);
    assert_eq!(told_of(&[("replication", "far", 0), ("store", "near", 10), ("space", "far", 11)]), ["replication", "store", "space"]);
    assert_eq!(told_of(&[("age", "", 0), ("run", "", 10)]), ["run"], "why it is old is worth more than that it is");
    assert_eq!(told_of(&[("age", "", 0)]), ["age"]);
}
