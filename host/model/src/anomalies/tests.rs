use super::{
    simulation::{Attack, Project, Random},
    *,
};
use jiff::Timestamp;
use proptest::prelude::*;
use std::collections::BTreeMap;

const YEARS: usize = 3;
const NIGHTS: usize = YEARS * 365;

/// The nights of a project, each judged as its run would have judged it, and how many were flagged.
fn live(seed: u64, nights: usize) -> (Vec<Observation>, Vec<(usize, Vec<Anomaly>)>, Project) {
    let (mut project, mut history, mut flagged) = (Project::new(seed), Vec::new(), Vec::new());
    for place in 0..nights {
        let mut night = project.night();
        let found = detect(&history, &night, &TimeZone::UTC);
        if !found.is_empty() {
            night.flagged = true;
            flagged.push((place, found));
        }
        history.push(night);
    }
    (history, flagged, project)
}

#[test]
fn less_than_one_night_in_a_hundred_is_flagged_in_three_quiet_years() {
    let (mut nights, mut flagged) = (0, 0);
    let mut rules: BTreeMap<Rule, usize> = BTreeMap::new();
    for seed in 0..60 {
        let (history, found, _) = live(seed, NIGHTS);
        nights += history.len();
        flagged += found.len();
        found.iter().flat_map(|(_, anomalies)| anomalies).for_each(|a| *rules.entry(a.rule).or_default() += 1);
        let share = found.len() as f64 / history.len() as f64;
        assert!(share < 0.01, "seed {seed}: {} of {} nights, {found:?}", found.len(), history.len());
    }
    let share = flagged as f64 / nights as f64;
    assert!(share < 0.005, "{flagged} of {nights}: {rules:?}");
}

#[test]
fn ninety_five_of_a_hundred_attacks_are_flagged_in_the_first_run() {
    for attack in Attack::ALL {
        let (mut tried, mut missed) = (0, Vec::new());
        for seed in 100..150 {
            let (history, _, mut project) = live(seed, 430);
            let mut random = Random::new(seed * 7919);
            for _ in 0..6 {
                let age = random.between(20.0, 420.0) as usize;
                let mut night = history[age].clone();
                night.flagged = false;
                attack.on(&mut night, &mut project.random);
                tried += 1;
                if detect(&history[..age], &night, &TimeZone::UTC).is_empty() {
                    missed.push((seed, age));
                }
            }
        }
        let caught = 1.0 - missed.len() as f64 / f64::from(tried);
        assert!(caught >= 0.95, "{attack:?}: {caught} of {tried}; missed {missed:?}");
    }
}

#[test]
fn an_attack_in_the_first_week_is_flagged_too() {
    for attack in [Attack::EncryptedInPlace, Attack::EncryptedAndRenamed, Attack::MassDeletion, Attack::EmptiedTable] {
        let mut caught = 0;
        for seed in 200..240 {
            let (history, _, mut project) = live(seed, 6);
            let mut night = history[5].clone();
            attack.on(&mut night, &mut project.random);
            caught += usize::from(!detect(&history[..5], &night, &TimeZone::UTC).is_empty());
        }
        assert!(caught >= 38, "{attack:?}: {caught} of 40");
    }
}

#[test]
fn what_was_flagged_and_stays_is_flagged_once() {
    let mut again = 0;
    for seed in 300..340 {
        let (mut history, _, mut project) = live(seed, 90);
        let mut night = project.night();
        Attack::SuddenGrowth.on(&mut night, &mut project.random);
        let more = night.bytes;
        let was = history.last().unwrap().bytes;
        night.flagged = true;
        history.push(night);
        let mut next = project.night();
        next.bytes += more - was;
        again += usize::from(!detect(&history, &next, &TimeZone::UTC).is_empty());
    }
    assert!(again <= 1, "{again} of 40");
}

fn quiet(day: i64) -> Observation {
    let at = Timestamp::from_second(1_760_000_000 + day * 86_400).unwrap();
    let pdf = KindCounts { files: 1_310, changed: 2, judged: 2, bytes_new: 200_000, ..KindCounts::default() };
    let tree = TreeCounts { compared: true, renamed: 0, kinds: [("pdf".to_owned(), pdf)].into() };
    let rows = [("users".to_owned(), 5_000), ("jobs".to_owned(), 3)].into();
    let databases = [("main".to_owned(), DatabaseCounts { bytes: 2_000_000, rows })].into();
    Observation { at, duration_ms: 60_000, bytes: 100_000_000, bytes_new: 200_000, tree, databases, flagged: false }
}

fn sentences(now: &Observation) -> Vec<(Rule, String)> {
    let history: Vec<Observation> = (0..30).map(quiet).collect();
    detect(&history, now, &TimeZone::UTC).into_iter().map(|a| (a.rule, a.sentence)).collect()
}

#[test]
fn encryption_is_said_in_a_sentence() {
    let mut now = quiet(30);
    let hit = KindCounts {
        files: 1_310,
        changed: 1_204,
        judged: 1_204,
        opaque: 1_204,
        bytes_new: 90_000_000,
        bytes_opaque: 90_000_000,
        ..KindCounts::default()
    };
    now.tree.kinds.insert("pdf".to_owned(), hit);
    now.bytes_new = 90_000_000;
    let said = "1,204 of 1,310 PDF files changed and no longer compress: this is what encryption by malware looks like";
    assert_eq!(sentences(&now), [(Rule::Encryption, said.to_owned())]);
}

#[test]
fn renamed_files_are_said_to_be() {
    let mut now = quiet(30);
    let gone = KindCounts { files: 10, deleted: 1_300, ..KindCounts::default() };
    let came = KindCounts {
        files: 1_300,
        new: 1_300,
        judged: 1_300,
        opaque: 1_299,
        bytes_new: 90_000_000,
        bytes_opaque: 90_000_000,
        ..KindCounts::default()
    };
    now.tree.kinds = [("pdf".to_owned(), gone), ("locked".to_owned(), came)].into();
    now.tree.renamed = 1_300;
    let said = "1,300 of 1,310 files are gone, and 1,300 new LOCKED files came that do not compress (1,300 of them are the old files \
                under a new name): this is what encryption by malware looks like";
    assert_eq!(sentences(&now), [(Rule::Encryption, said.to_owned())]);
}

#[test]
fn files_that_were_moved_or_whose_text_changed_are_not_encrypted() {
    let mut now = quiet(30);
    let gone = KindCounts { files: 0, deleted: 1_310, ..KindCounts::default() };
    let came = KindCounts { files: 1_310, new: 1_310, ..KindCounts::default() };
    now.tree.kinds = [("pdf".to_owned(), gone), ("bak".to_owned(), came)].into();
    now.tree.renamed = 1_310;
    assert_eq!(sentences(&now), []);
}

#[test]
fn a_kind_that_never_compressed_is_not_said_to_have_been_encrypted() {
    let vault = |day: i64, changed: u64| {
        let mut run = quiet(day);
        let kind = KindCounts {
            files: 40,
            changed,
            judged: changed,
            opaque: changed,
            bytes_new: changed * 1000,
            bytes_opaque: changed * 1000,
            ..KindCounts::default()
        };
        run.tree.kinds.insert("gpg".to_owned(), kind);
        run
    };
    let history: Vec<Observation> = (0..30).map(|day| vault(day, 12)).collect();
    assert_eq!(detect(&history, &vault(30, 40), &TimeZone::UTC), []);
}

#[test]
fn a_dump_that_shrank_and_a_table_that_lost_its_rows_are_named() {
    let mut now = quiet(30);
    let dump = now.databases.get_mut("main").unwrap();
    dump.bytes = 400_000;
    dump.rows.insert("users".to_owned(), 0);
    let said = sentences(&now);
    let small = "the dump of `main` has 400.0 KB, 20 % of the smallest of the last runs (2.0 MB)";
    let rows = "`main`: table `users` has 0 rows, and had 5,000 or more in the runs before";
    assert_eq!(said, [(Rule::SmallDump, small.to_owned()), (Rule::LostRows, rows.to_owned())]);
}

#[test]
fn a_young_project_is_not_judged() {
    let mut now = quiet(2);
    now.bytes *= 50;
    assert_eq!(detect(&[quiet(0), quiet(1)], &now, &TimeZone::UTC), []);
}

#[test]
fn what_is_kept_of_a_run_is_bounded_and_loses_no_file() {
    let kinds = (0..500).map(|k| (format!("k{k}"), KindCounts { files: k, deleted: 1, ..KindCounts::default() })).collect();
    let tree = TreeCounts { compared: true, renamed: 0, kinds };
    let bounded = tree.clone().bounded();
    assert!(bounded.kinds.len() <= 25);
    assert_eq!(bounded.total(), tree.total());
    let rows = (0..1000).map(|t| (format!("t{t}"), t)).collect();
    let counts = DatabaseCounts::new(1, &rows);
    assert_eq!(counts.rows.len(), MAX_TABLES);
    assert!(counts.rows.contains_key("t999") && !counts.rows.contains_key("t1"));
}

proptest! {
    /// Whatever numbers a damaged database or a foreign snapshot gives, judging them ends.
    #[test]
    fn no_numbers_break_it(values in proptest::collection::vec(any::<[u64; 8]>(), 1..40)) {
        let run = |(day, v): (i64, &[u64; 8])| {
            let kind = KindCounts { files: v[0], changed: v[1], new: v[2], deleted: v[3], opaque: v[4], judged: v[5], bytes_new: v[6], bytes_opaque: v[7] };
            let tree = TreeCounts { compared: v[0] & 1 == 0, renamed: v[1], kinds: [("x".to_owned(), kind)].into() };
            let rows = [("t".to_owned(), v[2])].into();
            let databases = [("d".to_owned(), DatabaseCounts { bytes: v[3], rows })].into();
            Observation { tree, databases, bytes: v[4], bytes_new: v[5], duration_ms: v[6], flagged: v[7] & 1 == 0, ..quiet(day) }
        };
        let runs: Vec<Observation> = (0..).zip(&values).map(run).collect();
        let (now, history) = runs.split_last().unwrap();
        for anomaly in detect(history, now, &TimeZone::UTC) {
            prop_assert!(!anomaly.sentence.is_empty());
        }
    }

    #[test]
    fn numbers_are_grouped(count in any::<u64>()) {
        prop_assert_eq!(grouped(count).replace(',', ""), count.to_string());
    }
}
