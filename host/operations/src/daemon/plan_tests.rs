use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn minutes(count: i64) -> SignedDuration {
    SignedDuration::from_mins(count)
}

fn project(name: &str, schedule: &str, attempts: Vec<Attempt>) -> ProjectView {
    ProjectView {
        name: name.parse().unwrap(),
        priority: Priority::Medium,
        schedule: Some(schedule.parse().unwrap()),
        paused: false,
        jitter: SignedDuration::ZERO,
        attempts,
        not_before: None,
    }
}

fn view(zone: &str, projects: Vec<ProjectView>) -> View {
    View { zone: TimeZone::get(zone).unwrap(), configured_at: None, parallel: 2, projects, tasks: Vec::new() }
}

fn attempt(began: &str, ending: Ending) -> Attempt {
    let began = at(began);
    Attempt { began, ended: began.checked_add(minutes(1)).ok(), ending }
}

fn due(attempts: Vec<Attempt>, now: &str) -> Option<Timestamp> {
    let view = view("UTC", vec![project("shop", "daily 03:00", attempts)]);
    due_at(&view.projects[0], &view, at(now))
}

fn names(plan: &Plan) -> Vec<String> {
    let name = |job: &Job| match job {
        Job::Run(name) => name.to_string(),
        Job::Task(name) => (*name).to_owned(),
    };
    plan.start.iter().map(name).collect()
}

/// Runs whatever is due from `from` to `to`, each run a minute long and good; the local times at which they began.
fn runs_between(zone: &str, schedule: &str, from: &str, to: &str) -> Vec<String> {
    let mut view = view(zone, vec![project("shop", schedule, vec![attempt(from, Ending::Served)])]);
    let (mut now, mut seen) = (at(from), Vec::new());
    while now < at(to) {
        let plan = plan(&view, &BTreeSet::new(), now);
        if plan.start.is_empty() {
            now = plan.wake.unwrap();
            continue;
        }
        seen.push(now.to_zoned_datetime(view.zone.clone()).strftime("%m-%d %H:%M %:z").to_string());
        view.projects[0].attempts.push(Attempt { began: now, ended: Some(now), ending: Ending::Served });
    }
    seen
}

#[test]
fn the_nights_on_which_the_clock_changes_have_one_run_each_in_amsterdam() {
    let march = runs_between("Europe/Amsterdam", "daily 03:00", "2026-03-27T12:00:00Z", "2026-03-31T00:00:00Z");
    assert_eq!(march, ["03-28 03:00 +01:00", "03-29 03:00 +02:00", "03-30 03:00 +02:00"]);
    let skipped = runs_between("Europe/Amsterdam", "daily 02:30", "2026-03-27T12:00:00Z", "2026-03-31T00:00:00Z");
    assert_eq!(skipped, ["03-28 02:30 +01:00", "03-29 03:30 +02:00", "03-30 02:30 +02:00"]);
    let october = runs_between("Europe/Amsterdam", "daily 03:00", "2026-10-23T12:00:00Z", "2026-10-27T00:00:00Z");
    assert_eq!(october, ["10-24 03:00 +02:00", "10-25 03:00 +01:00", "10-26 03:00 +01:00"]);
    let twice = runs_between("Europe/Amsterdam", "daily 02:30", "2026-10-23T12:00:00Z", "2026-10-27T00:00:00Z");
    assert_eq!(twice, ["10-24 02:30 +02:00", "10-25 02:30 +02:00", "10-26 02:30 +01:00"]);
    let weekly = runs_between("Europe/Amsterdam", "weekly sun 05:00", "2026-03-20T12:00:00Z", "2026-04-06T12:00:00Z");
    assert_eq!(weekly, ["03-22 05:00 +01:00", "03-29 05:00 +02:00", "04-05 05:00 +02:00"]);
}

#[test]
fn and_in_sydney_where_summer_begins_in_october() {
    let april = runs_between("Australia/Sydney", "daily 02:30", "2026-04-03T00:00:00Z", "2026-04-06T00:00:00Z");
    assert_eq!(april, ["04-04 02:30 +11:00", "04-05 02:30 +11:00", "04-06 02:30 +10:00"]);
    let october = runs_between("Australia/Sydney", "daily 02:30", "2026-10-02T00:00:00Z", "2026-10-05T00:00:00Z");
    assert_eq!(october, ["10-03 02:30 +10:00", "10-04 03:30 +11:00", "10-05 02:30 +11:00"]);
    let three = runs_between("Australia/Sydney", "daily 03:00", "2026-10-02T00:00:00Z", "2026-10-05T00:00:00Z");
    assert_eq!(three, ["10-03 03:00 +10:00", "10-04 03:00 +11:00", "10-05 03:00 +11:00"]);
}

#[test]
fn an_hourly_schedule_misses_and_repeats_no_hour_of_the_world() {
    let hourly = runs_between("Europe/Amsterdam", "0 * * * *", "2026-03-29T00:30:00Z", "2026-03-29T03:30:00Z");
    assert_eq!(hourly, ["03-29 03:00 +02:00", "03-29 04:00 +02:00", "03-29 05:00 +02:00"]);
}

#[test]
fn however_many_moments_were_missed_one_run_catches_up() {
    let last = attempt("2026-05-01T03:00:00Z", Ending::Served);
    assert_eq!(due(vec![last], "2026-05-09T11:00:00Z"), Some(at("2026-05-09T03:00:00Z")));
    let caught_up = attempt("2026-05-09T11:00:00Z", Ending::Served);
    assert_eq!(due(vec![last, caught_up], "2026-05-09T11:02:00Z"), Some(at("2026-05-10T03:00:00Z")));
}

#[test]
fn what_was_never_backed_up_is_due_at_once() {
    assert!(due(Vec::new(), "2026-05-09T11:00:00Z").unwrap() <= at("2026-05-09T11:00:00Z"));
}

#[test]
fn what_can_pass_is_tried_again_with_growing_pauses() {
    let mut attempts = Vec::new();
    let (mut now, mut pauses) = (at("2026-05-09T03:00:00Z"), Vec::new());
    for _ in 0..9 {
        attempts.push(Attempt { began: now, ended: Some(now), ending: Ending::Passing });
        let next = due(attempts.clone(), &now.to_string()).unwrap();
        pauses.push((next.as_second() - now.as_second()) / 60);
        now = next;
    }
    assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 320, 360, 360]);
    // The next moment of the schedule begins anew.
    assert_eq!(due(attempts, "2026-05-10T03:00:00Z"), Some(at("2026-05-10T03:00:00Z")));
}

#[test]
fn what_needs_a_person_waits_for_the_next_moment_or_for_another_configuration() {
    let failed = vec![attempt("2026-05-09T03:00:00Z", Ending::Failed)];
    assert_eq!(due(failed.clone(), "2026-05-09T12:00:00Z"), Some(at("2026-05-10T03:00:00Z")));
    let mut view = view("UTC", vec![project("shop", "daily 03:00", failed)]);
    view.configured_at = Some(at("2026-05-09T10:00:00Z"));
    assert_eq!(due_at(&view.projects[0], &view, at("2026-05-09T12:00:00Z")), Some(at("2026-05-09T03:06:00Z")), "now");
    view.configured_at = Some(at("2027-01-01T00:00:00Z"));
    assert_eq!(
        due_at(&view.projects[0], &view, at("2026-05-09T12:00:00Z")),
        Some(at("2026-05-10T03:00:00Z")),
        "a time to come says nothing"
    );
}

#[test]
fn a_partial_backup_is_tried_again_a_few_times_only() {
    let mut attempts = vec![attempt("2026-05-09T03:00:00Z", Ending::Partial)];
    assert_eq!(due(attempts.clone(), "2026-05-09T03:02:00Z"), Some(at("2026-05-09T03:06:00Z")));
    attempts.extend((1..4).map(|hour| attempt(&format!("2026-05-09T0{}:00:00Z", 3 + hour), Ending::Partial)));
    assert_eq!(due(attempts, "2026-05-09T12:00:00Z"), Some(at("2026-05-10T03:00:00Z")));
}

#[test]
fn who_was_stopped_or_killed_is_caught_up_at_once_but_not_for_ever() {
    let stopped = attempt("2026-05-09T03:00:00Z", Ending::Stopped);
    assert_eq!(due(vec![stopped], "2026-05-09T03:02:00Z"), Some(at("2026-05-09T03:00:00Z")));
    let died = Attempt { ended: None, ..attempt("2026-05-09T03:00:00Z", Ending::Died) };
    assert_eq!(due(vec![died], "2026-05-09T03:02:00Z"), Some(at("2026-05-09T03:00:00Z")));
    let again = Attempt { ended: None, ..attempt("2026-05-09T03:02:00Z", Ending::Died) };
    assert_eq!(due(vec![died, again], "2026-05-09T03:03:00Z"), Some(at("2026-05-09T03:07:00Z")));
}

#[test]
fn what_runs_is_not_begun_again() {
    let running = Attempt { ended: None, ..attempt("2026-05-09T03:00:00Z", Ending::Running) };
    assert_eq!(due(vec![running], "2026-05-09T03:02:00Z"), None);
}

#[test]
fn runs_of_a_time_to_come_serve_nothing() {
    // The clock was a year ahead once, and a run began then.
    let future = attempt("2027-05-01T03:00:00Z", Ending::Served);
    assert_eq!(due(vec![future], "2026-05-09T03:00:00Z"), Some(at("2026-05-09T03:00:00Z")));
    // And set back an hour after tonight's run: that run still counts.
    let tonight = attempt("2026-05-09T03:00:00Z", Ending::Served);
    assert_eq!(
        due(vec![attempt("2026-05-08T03:00:00Z", Ending::Served), tonight], "2026-05-09T02:30:00Z"),
        Some(at("2026-05-09T03:00:00Z"))
    );
    assert_eq!(due(vec![tonight], "2026-05-09T03:00:05Z"), Some(at("2026-05-10T03:00:00Z")));
}

#[test]
fn what_another_host_is_at_is_asked_for_again_later() {
    let mut view = view("UTC", vec![project("shop", "daily 03:00", Vec::new())]);
    view.projects[0].not_before = Some(at("2026-05-09T03:06:00Z"));
    let planned = plan(&view, &BTreeSet::new(), at("2026-05-09T03:01:00Z"));
    assert_eq!((planned.start, planned.wake), (Vec::new(), Some(at("2026-05-09T03:06:00Z"))));
}

#[test]
fn paused_projects_and_those_without_a_schedule_are_never_due() {
    let mut view = view("UTC", vec![project("rests", "daily 03:00", Vec::new()), project("byhand", "daily 03:00", Vec::new())]);
    view.projects[0].paused = true;
    view.projects[1].schedule = None;
    let planned = plan(&view, &BTreeSet::new(), at("2026-05-09T12:00:00Z"));
    assert_eq!(planned, Plan { start: Vec::new(), wake: None, next: Vec::new() });
}

#[test]
fn the_most_important_come_first_and_no_more_at_once_than_allowed() {
    let mut view = view("UTC", ["a", "b", "c", "d"].map(|name| project(name, "daily 03:00", Vec::new())).to_vec());
    view.projects[3].priority = Priority::Critical;
    view.projects[0].priority = Priority::Low;
    let now = at("2026-05-09T03:00:00Z");
    assert_eq!(names(&plan(&view, &BTreeSet::new(), now)), ["d", "b"]);
    let running = BTreeSet::from([Job::Run("d".parse().unwrap())]);
    assert_eq!(names(&plan(&view, &running, now)), ["b"]);
    view.parallel = 9;
    assert_eq!(names(&plan(&view, &BTreeSet::new(), now)), ["d", "b", "c", "a"]);
}

#[test]
fn tasks_of_one_lane_follow_each_other() {
    let task = |name, lane, due: &str| TaskView { name, lane, due_at: Some(at(due)) };
    let mut view = view("UTC", Vec::new());
    view.tasks = vec![
        task("scrub", Lane::Upkeep, "2026-05-09T03:00:00Z"),
        task("drill", Lane::Upkeep, "2026-05-09T02:00:00Z"),
        task("health", Lane::Health, "2026-05-09T03:00:00Z"),
        task("deliver", Lane::Messages, "2026-05-09T05:00:00Z"),
    ];
    let now = at("2026-05-09T04:00:00Z");
    let planned = plan(&view, &BTreeSet::new(), now);
    assert_eq!((names(&planned), planned.wake), (vec!["health".to_owned(), "drill".to_owned()], Some(at("2026-05-09T05:00:00Z"))));
    assert_eq!(names(&plan(&view, &BTreeSet::from([Job::Task("scrub")]), now)), ["health"]);
}

#[test]
fn the_jitter_of_a_project_is_its_own_and_never_before_the_moment() {
    let of = |host: &str, name: &str| jitter(host, &name.parse().unwrap(), minutes(10));
    assert_eq!(of("web1", "shop"), of("web1", "shop"));
    assert_ne!(of("web1", "shop"), of("web2", "shop"));
    let all: BTreeSet<i64> = (0..200).map(|n| of("web1", &format!("p{n}")).as_secs()).collect();
    assert!(all.len() > 100 && all.iter().all(|secs| (0..=600).contains(secs)), "{all:?}");
    assert_eq!(jitter("web1", &"shop".parse().unwrap(), SignedDuration::ZERO), SignedDuration::ZERO);

    let mut view = view("UTC", vec![project("shop", "daily 03:00", vec![attempt("2026-05-08T03:07:00Z", Ending::Served)])]);
    view.projects[0].jitter = minutes(7);
    let before = plan(&view, &BTreeSet::new(), at("2026-05-09T03:06:59Z"));
    assert_eq!((before.start, before.wake), (Vec::new(), Some(at("2026-05-09T03:07:00Z"))));
    assert_eq!(names(&plan(&view, &BTreeSet::new(), at("2026-05-09T03:07:00Z"))), ["shop"]);
    // Who ran it by hand between the two has served the moment.
    view.projects[0].attempts.push(attempt("2026-05-09T03:02:00Z", Ending::Served));
    assert_eq!(plan(&view, &BTreeSet::new(), at("2026-05-09T03:07:00Z")).wake, Some(at("2026-05-10T03:07:00Z")));
}
