use super::*;
use crate::{databases::DatabaseError, error::OperationError, report::Failure};
use havun_model::{Blame, StrategyError};
use havun_notify::Language::{Dutch, English};
use havun_vault::{VaultError, store::StoreError};
use std::{collections::BTreeSet, fs, io, path::Path};

/// The page for an alert as the program would raise it about this error.
fn page_of(kind: &str, error: &OperationError) -> &'static str {
    of_failure(kind, &error.to_failure())
}

fn of_failure(kind: &str, failure: &Failure) -> &'static str {
    page_for(kind, i64::from(failure.exit_status), &failure.one_line()).slug
}

fn store(source: StoreError) -> OperationError {
    OperationError::Store { store: "hetzner".parse().unwrap(), source }
}

fn vault(source: VaultError) -> OperationError {
    OperationError::Vault { project: "shop".parse().unwrap(), store: "local".parse().unwrap(), source: Box::new(source) }
}

fn database(source: DatabaseError) -> String {
    let error = OperationError::DatabaseTest { project: "shop".parse().unwrap(), item: "main".parse().unwrap(), source: Box::new(source) };
    error.to_failure().one_line()
}

#[test]
fn each_real_error_leads_to_its_page() {
    let away = || StoreError::Unreachable { what: "connection refused".to_owned() };
    let full = StoreError::NoSpace { path: "/var/backups".into(), free: Some(7) };
    let locked = || VaultError::Locked { place: "/var/backups".to_owned(), holder: "run on web2 (process 7)".to_owned() };
    for (error, slug) in [
        (store(away()), "archive-away"),
        (store(full), "disk-full"),
        (store(StoreError::ReadBack { name: "epochs/2026/packs/a".parse().unwrap() }), "damage"),
        (vault(locked()), "locked"),
        (vault(VaultError::WrongKey { place: "/x".to_owned() }), "wrong-key"),
        (vault(VaultError::Damaged { object: "epochs/2026/packs/a".to_owned(), what: "its SHA-256 is another".to_owned() }), "damage"),
        (OperationError::LeaseLost { project: "shop".parse().unwrap(), holder: "host `web2` (process 7)".to_owned() }, "locked"),
        (OperationError::NoKey { project: "shop".parse().unwrap() }, "wrong-key"),
        (OperationError::Audit(Box::new(io::Error::other("connection refused"))), "audit-database"),
        (
            OperationError::RootGone {
                project: "shop".parse().unwrap(),
                path: "/var/www/shop".into(),
                source: io::ErrorKind::NotFound.into(),
            },
            "source",
        ),
        (OperationError::Quiesce { project: "shop".parse().unwrap(), why: "php: exit status 1".to_owned() }, "source"),
        (OperationError::Strategy { project: "shop".parse().unwrap(), source: Box::new(trapped()) }, "strategy"),
    ] {
        assert_eq!(page_of("run", &error), slug, "{}", error.to_failure().one_line());
    }
    assert_eq!(page_of("replication", &store(away())), "archive-away");
}

fn trapped() -> StrategyError {
    let (strategy, message) = ("laravel".to_owned(), "it trapped: unreachable".to_owned());
    StrategyError { strategy, call: "plan-backup", blame: Blame::Strategy, code: "trap".to_owned(), message }
}

#[test]
fn database_errors_are_told_apart() {
    let dead = database(DatabaseError::Connect { database: "shop on 127.0.0.1:3306".to_owned(), message: "Connection refused".to_owned() });
    assert_eq!(page_for("run", 1, &dead).slug, "database", "{dead}");
    let login = database(DatabaseError::Connect { database: "shop".to_owned(), message: "Access denied for user 'shop'".to_owned() });
    assert_eq!(page_for("run", 3, &login).slug, "database-login", "{login}");
    let locked = database(DatabaseError::Locked { database: "/x.sqlite".to_owned(), waited: std::time::Duration::from_secs(15) });
    assert_eq!(page_for("run", 3, &locked).slug, "database", "{locked}");
}

#[test]
fn what_health_joins_leads_to_the_gravest() {
    let joined = "behind since 2026-01-01 by 3 objects; 2 objects were deleted behind the program's back; overdue for a drill";
    assert_eq!(page_for("health", 4, joined).slug, "deleted");
    assert_eq!(page_for("health", 4, "the newest good snapshot is 40 hours old").slug, "health");
    assert_eq!(page_for("drill", 6, "the drill is failed: 1 row is missing").slug, "drill");
    assert_eq!(page_for("clock", 4, "host key").slug, "clock");
    assert_eq!(page_for("something-new", 1, "it went wrong").slug, "run");
}

/// Every literal kind that an alert is raised with in this crate.
fn kinds_in(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            kinds_in(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") && !path.ends_with("incidents/tests.rs") {
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap();
            for call in code.split(".alert(").skip(1) {
                let words: Vec<&str> = call.split(';').next().unwrap().split('"').collect();
                // Project and store may be literals too, and empty; the kind is the first that says something.
                found.extend(words.iter().skip(1).step_by(2).find(|word| !word.is_empty()).map(|kind| (*kind).to_owned()));
            }
            for literal in code.split("Alert {").skip(1) {
                let kind = literal.split('}').next().unwrap().split("kind: \"").nth(1);
                found.extend(kind.and_then(|rest| rest.split('"').next()).map(str::to_owned));
            }
        }
    }
}

#[test]
fn every_kind_of_alert_that_the_program_raises_has_its_page() {
    let mut kinds = BTreeSet::new();
    kinds_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut kinds);
    for kind in ["run", "replication", "scrub", "drill"] {
        assert!(kinds.contains(kind), "the search finds no {kind} in {kinds:?}");
    }
    kinds.extend(crate::health::FindingKind::ALL.iter().map(|kind| kind.word().to_owned()).filter(|kind| kind != "note"));
    for kind in kinds {
        assert!(is_kind(&kind), "an alert of kind `{kind}` is raised, and docs/incidents has no page for it");
    }
}

fn pages_in(folder: &Path) -> BTreeSet<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(".md")).collect()
}

#[test]
fn every_page_in_docs_is_in_the_program_and_says_the_four_things_in_both_languages() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/incidents");
    let known: BTreeSet<String> = PAGES.iter().map(|page| format!("{}.md", page.slug)).collect();
    assert_eq!((pages_in(&folder), pages_in(&folder.join("nl"))), (known.clone(), known));
    let place = Place { project: "shop", store: "hetzner", state_dir: "/srv/state" };
    for page in PAGES.iter().flat_map(|page| [page.localised(English), page.localised(Dutch)]) {
        let slug = page.slug;
        assert!(!page.title().is_empty() && !page.title().starts_with('#'), "{slug}");
        assert!(page.meaning(place).len() > 80 && page.safe(place).len() > 20, "{slug}");
        assert!(page.over(place).len() > 20 && !page.over(place).contains("## "), "{slug}");
        let steps = page.steps(place);
        assert!(steps.len() >= 2, "{slug}");
        assert!(steps.iter().any(|step| step.commands.contains("havun-backup ")), "{slug}");
        assert!(steps.iter().all(|step| !step.text.contains("```") && !step.text.contains("**")), "{slug}");
        assert!(!page.text(place).contains("--project NAME"), "{slug}");
    }
}

#[test]
fn both_languages_have_the_same_steps_with_the_same_commands() {
    for page in PAGES {
        let commands =
            |language| page.localised(language).steps(Place::default()).into_iter().map(|step| step.commands).collect::<Vec<_>>();
        assert_eq!(commands(English), commands(Dutch), "{}", page.slug);
        assert_ne!(page.localised(English).title(), page.localised(Dutch).title(), "{}", page.slug);
    }
}

#[test]
fn a_page_speaks_of_this_project_and_machine() {
    let place = Place { project: "shop", store: "hetzner", state_dir: "/srv/state" };
    let drill = page("drill").unwrap();
    assert!(drill.text(place).contains("ls -t /srv/state/certificates/shop"));
    let commands = "havun-backup run --project shop\nhavun-backup test --project shop";
    assert!(drill.localised(Dutch).steps(place).iter().any(|step| step.commands == commands));
    assert!(page("deleted").unwrap().text(place).contains("--store hetzner --reason"));
    assert!(page("run").unwrap().text(Place::default()).contains("havun-backup logs --project NAME --limit 5"));
}
