use super::*;

fn item(name: &str, kind: &str, path: &str) -> guest::Item {
    guest::Item {
        name: name.into(),
        kind: kind.into(),
        path: path.into(),
        includes: vec![],
        excludes: vec![],
        connection: None,
        exclude_rows: vec![],
        reason: "a\u{1b}b".into(),
        ext: vec![],
    }
}

fn parameter(name: &str, source: &str, file: &str, value: &str) -> guest::Parameter {
    let syntax = if source == "variable" { "dotenv" } else { "" };
    guest::Parameter { name: name.into(), source: source.into(), file: file.into(), syntax: syntax.into(), value: value.into() }
}

fn database(engine: &str, parameters: Vec<guest::Parameter>) -> guest::Item {
    let connection = guest::Connection { name: "main".into(), engine: engine.into(), parameters, ext: vec![] };
    guest::Item { connection: Some(connection), ..item("database", "database", "") }
}

fn plan(items: Vec<guest::Item>) -> Result<BackupPlan, Refusal> {
    backup_plan(guest::BackupPlan { items, warnings: vec!["two\nlines".into()] })
}

#[track_caller]
fn refused(items: Vec<guest::Item>, part: &str) {
    let refusal = plan(items).unwrap_err();
    assert!(refusal.contains(part), "{refusal}");
    assert!(!text::has_control(&refusal), "{refusal:?}");
}

#[test]
fn a_sound_plan_is_taken_over() {
    let tree = guest::Item {
        includes: vec!["storage/**/*.json".into()],
        excludes: vec!["storage/logs/**".into()],
        ext: vec![("json".into(), "true".into()), ("later".into(), "x".into())],
        ..item("json", "tree", "storage")
    };
    let connection =
        database("mariadb", vec![parameter("password", "variable", ".env", "DB_PASSWORD"), parameter("port", "literal", "", "3306")]);
    let plan = plan(vec![tree, connection, item("history", "git", ""), item("packages", "generated", "packages.json")]).unwrap();
    let kinds: Vec<_> = plan.items.iter().map(|item| item.kind.word()).collect();
    assert_eq!(kinds, ["tree", "database", "git", "generated"]);
    assert_eq!((plan.items[0].reason.as_str(), plan.warnings[0].as_str()), ("a\u{fffd}b", "two lines"));
    assert!(matches!(&plan.items[0].kind, ItemKind::Tree(tree) if tree.json));
}

#[test]
fn paths_that_lead_out_are_refused() {
    for path in ["../other", "/etc", "a/../..", "a\\..\\b", "a\0", "./a", "a/", "a\nb"] {
        for kind in ["tree", "git", "generated"] {
            refused(vec![item("x", kind, path)], "item `x`");
        }
    }
    refused(vec![item("x", "generated", "a/b")], "not a file name");
    refused(vec![item("x", "generated", "")], "not a file name");
}

#[test]
fn globs_that_lead_out_or_do_not_parse_are_refused() {
    for glob in ["/etc/**", "../**", "a/../b", "[", ""] {
        refused(vec![guest::Item { includes: vec![glob.into()], ..item("x", "tree", "") }], "not a glob");
        refused(vec![guest::Item { excludes: vec![glob.into()], ..item("x", "tree", "") }], "not a glob");
    }
    refused(vec![guest::Item { excludes: vec!["a".into(); 1001], ..item("x", "tree", "") }], "more than 1000");
}

#[test]
fn names_and_kinds_are_held_to_what_the_host_knows() {
    refused(vec![item("a/b", "tree", "")], "item name");
    refused(vec![item("A", "tree", "")], "item name");
    refused(vec![item("x", "tree", "a"), item("x", "git", "")], "two items");
    refused(vec![item("x", "volume", "")], "no kind `volume`");
    refused(vec![item("x", "database", "")], "connection");
    refused((0..257).map(|n| item(&format!("i{n}"), "tree", "")).collect(), "257 items");
}

#[test]
fn a_given_secret_and_a_database_outside_the_project_are_withheld_with_a_warning() {
    for (engine, name, value) in [
        ("mysql", "password", "hunter2"),
        ("", "url", "mysql://u:hunter2@h/d"),
        ("sqlite", "path", "/var/www/other/db.sqlite"),
        ("sqlite", "database", "../other.sqlite"),
    ] {
        let plan = plan(vec![database(engine, vec![parameter(name, "literal", "", value)])]).unwrap();
        let ItemKind::Database(item) = &plan.items[0].kind else { panic!("a database") };
        assert!(item.connection.parameters.is_empty(), "{name}");
        assert!(
            plan.warnings[1].contains("[projects.NAME.databases.main]") && !plan.warnings[1].contains("hunter2"),
            "{:?}",
            plan.warnings
        );
    }
    let inside = plan(vec![database("sqlite", vec![parameter("path", "literal", "", "database/database.sqlite")])]).unwrap();
    assert_eq!(inside.warnings.len(), 1);
}

#[test]
fn a_connection_is_held_to_what_the_host_knows() {
    refused(vec![database("mysql", vec![parameter("user", "variable", "../.env", "DB_USER")])], "`..`");
    refused(vec![database("mysql", vec![parameter("user", "variable", "", "DB_USER")])], "needs the file");
    refused(vec![database("mysql", vec![parameter("user", "shell", "", "whoami")])], "source");
    refused(vec![database("mysql", vec![parameter("sudo", "literal", "", "x")])], "not a parameter");
    refused(vec![database("mysql", vec![parameter("host", "literal", "", "a"), parameter("host", "literal", "", "b")])], "twice");
    refused(vec![database("my sql", vec![])], "engine");
}

#[test]
fn a_description_must_have_a_name_and_a_version() {
    let said = |id: &str, version: &str, schema: &str| {
        description(guest::Description {
            id: id.into(),
            version: version.into(),
            title: "T".into(),
            requests: vec![],
            settings_schema: schema.into(),
            ext: vec![],
        })
    };
    assert!(said("laravel-package", "1.2.3", "").is_ok());
    for (id, version, schema) in [("", "1", ""), ("La ravel", "1", ""), ("x", "", ""), ("x", "1 2", ""), ("x", "1", "{")] {
        assert!(said(id, version, schema).is_err(), "{id} {version} {schema}");
    }
}

#[test]
fn a_proposed_setting_is_json() {
    let proposed = |value: &str| {
        let setting = guest::ProposedSetting { key: "exclude".into(), value: value.into(), reason: String::new() };
        detection(guest::Detection { confidence: 90, label: String::new(), settings: vec![setting], notes: vec![], ext: vec![] })
    };
    assert_eq!(proposed("[\"a\"]").unwrap().settings[0].value, serde_json::json!(["a"]));
    assert!(proposed("not json").is_err());
}

fn rule(kind: &str, item: &str) -> erasure::EraseRule {
    erasure::EraseRule {
        item: item.to_owned(),
        kind: kind.to_owned(),
        table: "users".to_owned(),
        column: "email".to_owned(),
        action: "delete".to_owned(),
        replacements: vec![],
        pattern: "avatars/*/{subject}.png".to_owned(),
        normalise: vec!["trim".to_owned(), "lower".to_owned()],
        ext: vec![],
    }
}

fn restored() -> Vec<StoredItem> {
    let item = |name: &str, kind: &str| StoredItem { name: name.to_owned(), kind: kind.to_owned(), complete: true, bytes: 0, files: 0 };
    vec![item("database", "database"), item("app", "tree")]
}

#[test]
fn erase_rules_are_taken_over() {
    let rules = erase_rules(vec![rule("rows", "database"), rule("files", "app")], &restored()).unwrap();
    assert!(matches!(&rules[0].target, EraseTarget::Rows { table, action: RowAction::Delete, .. } if table == "users"));
    assert!(matches!(&rules[1].target, EraseTarget::Files { pattern } if pattern == "avatars/*/{subject}.png"));
}

#[test]
fn an_erase_rule_that_cannot_be_meant_is_refused() {
    type Change = fn(&mut erasure::EraseRule);
    let changes: [(&str, Change); 9] = [
        ("no item", |r| r.item = "gone".to_owned()),
        ("another kind of item", |r| r.item = "app".to_owned()),
        ("kind", |r| r.kind = "records".to_owned()),
        ("action", |r| r.action = "drop".to_owned()),
        ("nothing replaced", |r| r.action = "replace".to_owned()),
        ("normalise", |r| r.normalise = vec!["soundex".to_owned()]),
        ("table", |r| r.table = "a\nb".to_owned()),
        ("column", |r| r.column = String::new()),
        ("replaced column", |r| {
            r.action = "replace".to_owned();
            r.replacements = vec![erasure::Replacement { column: String::new(), value: None }];
        }),
    ];
    for (what, change) in changes {
        let mut rule = rule("rows", "database");
        change(&mut rule);
        assert!(erase_rules(vec![rule], &restored()).is_err(), "{what}");
    }
    for pattern in ["../{subject}", "/x/{subject}", "{subject}/x", "x", "{subject}-{hash}", "*{subject}", ""] {
        let rule = erasure::EraseRule { pattern: pattern.to_owned(), ..rule("files", "app") };
        assert!(erase_rules(vec![rule], &restored()).is_err(), "{pattern}");
    }
}
