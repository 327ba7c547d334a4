use super::*;
use proptest::prelude::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn term(text: &str) -> Term {
    text.parse().unwrap()
}

fn candidate(n: u8, taken: &str, outcome: Outcome) -> Candidate {
    Candidate { id: SnapshotId::from_bytes([n; 32]), taken_at: at(taken), outcome, promised_until: None }
}

static NOTHING: BTreeMap<SnapshotId, String> = BTreeMap::new();
static ZONE: TimeZone = TimeZone::UTC;

fn by(now: Timestamp) -> Circumstances<'static> {
    Circumstances { now, zone: &ZONE, held: &NOTHING, clock: Clock::Compared(&[]) }
}

/// One good snapshot a day at 03:00, from 2026-01-01 on.
fn daily(days: i64) -> Vec<Candidate> {
    (0..days)
        .map(|n| {
            let taken_at = day(n);
            let mut id = [0; 32];
            id[..8].copy_from_slice(&n.to_be_bytes());
            Candidate { id: SnapshotId::from_bytes(id), taken_at, outcome: Outcome::Ok, promised_until: None }
        })
        .collect()
}

fn day(n: i64) -> Timestamp {
    at("2026-01-01T03:00:00Z").checked_add(Span::new().hours(24 * n)).unwrap()
}

fn gone(verdicts: &[Verdict]) -> BTreeSet<SnapshotId> {
    verdicts.iter().filter(|v| !v.keep).map(|v| v.id).collect()
}

#[test]
fn a_year_term_ends_with_a_calendar_year() {
    let zone = TimeZone::get("Europe/Amsterdam").unwrap();
    let until = term("7y").keep_until(at("2026-01-15T03:00:00Z"), &zone);
    assert_eq!(until, at("2033-12-31T23:00:00Z"));
}

#[test]
fn the_floor_counts_good_snapshots_only() {
    let all = [
        candidate(1, "2026-01-01T00:00:00Z", Outcome::Ok),
        candidate(2, "2026-01-02T00:00:00Z", Outcome::Ok),
        candidate(3, "2026-01-03T00:00:00Z", Outcome::Partial),
    ];
    let verdicts = decide_hot(&all, term("1d"), 1, &by(at("2026-01-20T00:00:00Z")));
    let kept: Vec<_> = verdicts.iter().filter(|v| v.keep).map(|v| v.id.as_bytes()[0]).collect();
    assert_eq!(kept, [3, 2]);
}

#[test]
fn no_candidates_no_verdicts() {
    assert!(decide_hot(&[], term("1d"), 3, &by(day(0))).is_empty());
    assert!(decide_archive(&[], Some(term("7y")), &by(day(0))).is_empty());
    assert_eq!(clock_doubt(&[], day(0)), None);
}

#[test]
fn a_month_of_daily_backups_is_thinned() {
    let all = daily(100);
    let verdicts = decide_hot(&all, term("30d"), 3, &by(day(99)));
    assert_eq!(gone(&verdicts).len(), 69);
    assert!(verdicts.iter().take(31).all(|v| v.keep));
}

#[test]
fn a_held_snapshot_stays_and_opens_no_gap() {
    let all = daily(100);
    let held = BTreeMap::from([(all[0].id, "lawsuit".to_owned())]);
    let circumstances = Circumstances { held: &held, ..by(day(99)) };
    let verdicts = decide_hot(&all, term("30d"), 3, &circumstances);
    assert!(!gone(&verdicts).contains(&all[0].id));
    assert_eq!(gone(&verdicts).len(), 68);
    // What is left a month later: the held one far behind the rest.
    let left: Vec<Candidate> = all.iter().filter(|c| c.id == all[0].id || c.taken_at >= day(97)).cloned().collect();
    let verdicts = decide_hot(&left, term("1d"), 1, &circumstances);
    assert_eq!(gone(&verdicts), BTreeSet::from([all[97].id]));
}

#[test]
fn a_clock_in_doubt_deletes_nothing_unless_a_person_confirms_it() {
    let all = daily(100);
    let ahead = day(99 + 41);
    let back = at("1970-01-02T00:00:00Z");
    let mut jumped = all.clone();
    jumped.push(Candidate { id: SnapshotId::from_bytes([0xff; 32]), taken_at: day(1000), ..all[0].clone() });
    for (candidates, now) in [(&all, ahead), (&all, back), (&jumped, day(1000)), (&jumped, day(100))] {
        assert!(gone(&decide_hot(candidates, term("30d"), 0, &by(now))).is_empty(), "{now}");
        assert!(gone(&decide_archive(candidates, Some(term("30d")), &by(now))).is_empty(), "{now}");
    }
    let confirmed = Circumstances { clock: Clock::Confirmed, ..by(ahead) };
    assert_eq!(gone(&decide_hot(&all, term("30d"), 0, &confirmed)).len(), 99);
    // Times known from another store count too.
    let elsewhere = [day(2000)];
    let compared = Circumstances { clock: Clock::Compared(&elsewhere), ..by(day(99)) };
    assert!(gone(&decide_hot(&all, term("30d"), 0, &compared)).is_empty());
}

#[test]
fn a_pause_is_believed_after_seven_days_of_backups() {
    let before = [day(0), day(1)];
    for days in 0..10 {
        let mut taken = before.to_vec();
        // Two a day do not count twice.
        taken.extend((0..days).flat_map(|n| [day(100 + n), day(100 + n)]));
        let now = *taken.last().unwrap();
        assert_eq!(clock_doubt(&taken, now).is_some(), (1..7).contains(&days), "{days}");
    }
    assert!(clock_doubt(&[day(0)], day(40)).is_none());
    assert!(clock_doubt(&[day(0)], day(41)).is_some());
    assert!(clock_doubt(&[day(1)], day(0)).is_some());
}

#[test]
fn an_archive_keeps_to_the_longer_of_promise_and_term() {
    let mut all = daily(400);
    for c in &mut all {
        c.promised_until = Some(c.taken_at.checked_add(Span::new().hours(24 * 100)).unwrap());
    }
    let now = by(day(399));
    let terms = ["1d", "99d", "100d", "200d", "7y"].map(|text| gone(&decide_archive(&all, Some(term(text)), &now)).len());
    assert_eq!(terms, [299, 299, 299, 199, 0]);
    assert!(gone(&decide_archive(&all, None, &now)).is_empty(), "no term, no deletion");
}

#[test]
fn the_newest_good_snapshot_always_stays() {
    let mut all = daily(20);
    all[19].outcome = Outcome::Partial;
    let confirmed = Circumstances { clock: Clock::Confirmed, ..by(day(4000)) };
    let kept: Vec<_> = decide_archive(&all, Some(term("1d")), &confirmed).into_iter().filter(|v| v.keep).map(|v| v.id).collect();
    assert_eq!(kept, [all[19].id, all[18].id]);
}

#[test]
fn nonsense_is_no_term() {
    for text in ["", "d", "0d", "-1d", "7 y", "+7y", "7", "1001d", "é", "7€"] {
        assert!(text.parse::<Term>().is_err(), "{text}");
    }
}

fn any_term() -> impl Strategy<Value = Term> {
    (1i16..=1000, prop_oneof![Just(TermUnit::Days), Just(TermUnit::Weeks), Just(TermUnit::Months), Just(TermUnit::Years)])
        .prop_map(|(count, unit)| Term { count, unit })
}

fn any_candidates() -> impl Strategy<Value = Vec<Candidate>> {
    let one = (0i64..4000, any::<bool>(), 1i64..4000);
    prop::collection::vec(one, 0..60).prop_map(|all| {
        (0u8..)
            .zip(all)
            .map(|(n, (taken, ok, promised))| Candidate {
                id: SnapshotId::from_bytes([n; 32]),
                taken_at: day(taken),
                outcome: if ok { Outcome::Ok } else { Outcome::Partial },
                promised_until: Some(day(taken + promised)),
            })
            .collect()
    })
}

proptest! {
    /// Whatever the configuration says later: what a snapshot was promised is kept.
    #[test]
    fn no_configuration_shortens_a_promise(all in any_candidates(), term in any_term(), now in 0i64..9000, confirmed: bool) {
        let clock = if confirmed { Clock::Confirmed } else { Clock::Compared(&[]) };
        let circumstances = Circumstances { clock, ..by(day(now)) };
        for verdicts in [decide_archive(&all, Some(term), &circumstances), decide_hot(&all, term, 0, &circumstances)] {
            prop_assert_eq!(verdicts.len(), all.len());
            let gone = gone(&verdicts);
            for candidate in &all {
                if candidate.promised_until >= Some(circumstances.now) {
                    prop_assert!(!gone.contains(&candidate.id));
                }
            }
        }
    }

    /// With the terms as promised, a shorter one in the configuration deletes exactly what the longer one did.
    #[test]
    fn shortening_a_term_never_deletes_more(all in any_candidates(), a in any_term(), b in any_term(), now in 0i64..9000) {
        let longer = |c: &Candidate| a.keep_until(c.taken_at, &TimeZone::UTC).max(b.keep_until(c.taken_at, &TimeZone::UTC));
        let all: Vec<Candidate> = all.iter().map(|c| Candidate { promised_until: Some(longer(c)), ..c.clone() }).collect();
        let circumstances = Circumstances { clock: Clock::Confirmed, ..by(day(now)) };
        prop_assert_eq!(
            gone(&decide_archive(&all, Some(a), &circumstances)),
            gone(&decide_archive(&all, Some(b), &circumstances))
        );
    }

    /// Lengthening one never deletes more either, held snapshots and the newest good one stay, and a clock that
    /// stands before the newest snapshot deletes nothing.
    #[test]
    fn what_must_stay_stays(all in any_candidates(), a in any_term(), now in 0i64..9000, held in 0u8..60) {
        let held = BTreeMap::from([(SnapshotId::from_bytes([held; 32]), "held".to_owned())]);
        let circumstances = Circumstances { clock: Clock::Confirmed, held: &held, ..by(day(now)) };
        let removed = gone(&decide_archive(&all, Some(a), &circumstances));
        prop_assert!(held.keys().all(|id| !removed.contains(id)));
        let newest_good = all.iter().filter(|c| c.outcome == Outcome::Ok).max_by_key(|c| (c.taken_at, c.id));
        prop_assert!(newest_good.is_none_or(|c| !removed.contains(&c.id)));
        let newest = all.iter().map(|c| c.taken_at).max();
        if newest > Some(day(now)) {
            prop_assert!(gone(&decide_archive(&all, Some(a), &by(day(now)))).is_empty());
        }
    }
}
