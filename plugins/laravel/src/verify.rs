//! Is the restored application whole?

use crate::{
    cipher::{self, Encrypted},
    database::Application,
    models,
    settings::LaravelSettings,
};
use havun_backup_sdk::prelude::*;

/// The item of the application's own database.
const MAIN: &str = "database";
/// Values of a column that are looked at: as many as the host gives.
const SAMPLE: u32 = 100;

/// Files without which nothing runs.
const REQUIRED: [&str; 4] = ["artisan", "composer.json", "bootstrap/app.php", "public/index.php"];

/// Files, key, and every restored database.
pub fn checks(cx: &Context<LaravelSettings>, restored: &dyn Tree, databases: &[&dyn Database]) -> Vec<Check> {
    let app = Application::read(restored, &cx.settings.env_file);
    let mut checks = vec![required_files(restored), lock_file(restored), app_key(&app), uploads(restored)];
    for database in databases {
        checks.extend(database_checks(&app, restored, *database));
    }
    checks.push(stored_values(cx, &app, restored, databases));
    checks
}

fn required_files(restored: &dyn Tree) -> Check {
    let missing: Vec<&str> = REQUIRED.into_iter().filter(|path| !restored.is_file(path)).collect();
    match missing.as_slice() {
        [] => Check::new("required files", Verdict::Pass, REQUIRED.join(", ")),
        missing => Check::new("required files", Verdict::Fail, format!("missing: {}", missing.join(", "))),
    }
}

fn lock_file(restored: &dyn Tree) -> Check {
    match restored.json("composer.lock") {
        Some(_) => Check::new("composer.lock", Verdict::Pass, "parses"),
        None => Check::new("composer.lock", Verdict::Warn, "missing or damaged: composer install may bring other versions"),
    }
}

/// `base64:` and the bytes that the cipher wants.
fn app_key(app: &Application<'_>) -> Check {
    let name = "APP_KEY";
    if let Some(fault) = &app.env_fault {
        return Check::new(name, Verdict::Fail, fault.clone());
    }
    let Some(key) = app.env(name).filter(|key| !key.is_empty()) else {
        return Check::new(name, Verdict::Fail, "not in the dotenv file: encrypted columns are lost without it");
    };
    let length = match key.strip_prefix("base64:") {
        Some(text) => base64_len(text),
        None => Some(key.len()),
    };
    match length {
        Some(16 | 32) => Check::new(name, Verdict::Pass, "present and of the right form"),
        Some(length) => Check::new(name, Verdict::Fail, format!("{length} bytes; AES-256 needs 32 and AES-128 needs 16")),
        None => Check::new(name, Verdict::Fail, "no valid base64"),
    }
}

/// Number of bytes that a base64 text stands for.
fn base64_len(text: &str) -> Option<usize> {
    let body = text.trim_end_matches('=');
    let padding = text.len() - body.len();
    let good = body.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/'));
    (good && text.len().is_multiple_of(4) && padding <= 2).then_some(body.len() * 3 / 4)
}

/// The folder of uploads, and of the framework's own files, which it does not make by itself.
fn uploads(restored: &dyn Tree) -> Check {
    let name = "storage/app";
    if restored.stat("storage").ok().flatten().is_some_and(|stat| stat.kind == "symlink") && !restored.is_dir("storage/app") {
        return Check::new(name, Verdict::Skipped, "storage is a link to a place outside of the restored tree, which was not looked at");
    }
    if !restored.is_dir("storage/app") {
        return Check::new(name, Verdict::Fail, "not in the restored tree: what users uploaded is not there");
    }
    let missing: Vec<&str> = ["storage/framework", "storage/logs"].into_iter().filter(|path| !restored.is_dir(path)).collect();
    let half_a_pair = ["private", "public"].map(|half| restored.is_file(&format!("storage/oauth-{half}.key")));
    match (missing.as_slice(), half_a_pair) {
        ([], [true, false] | [false, true]) => Check::new(name, Verdict::Fail, "one of Passport's keys (storage/oauth-*.key) is missing"),
        ([], _) => Check::new(name, Verdict::Pass, "there"),
        (missing, _) => Check::new(name, Verdict::Fail, format!("missing: {}", missing.join(", "))),
    }
}

fn database_checks(app: &Application<'_>, restored: &dyn Tree, database: &dyn Database) -> Vec<Check> {
    let name = |what: &str| format!("{}: {what}", database.item());
    let tables = match database.tables() {
        Ok(tables) => tables,
        Err(error) => return vec![Check::new(name("tables"), Verdict::Fail, error.text())],
    };
    let mut checks = vec![match tables.len() {
        0 => Check::new(name("tables"), Verdict::Fail, "none"),
        count => Check::new(name("tables"), Verdict::Pass, format!("{count} tables")),
    }];
    if tables.is_empty() {
        return checks;
    }
    if database.item() == MAIN {
        checks.extend(migrations(app, restored, database, &tables));
    }
    // What an application in use has rows in.
    if tables.iter().any(|known| known == "users") {
        checks.push(match database.count_rows("users") {
            Ok(0) => Check::new(name("users"), Verdict::Warn, "no rows"),
            Ok(rows) => Check::new(name("users"), Verdict::Pass, format!("{rows} rows")),
            Err(error) => Check::new(name("users"), Verdict::Fail, error.text()),
        });
    }
    checks
}

/// The table of migrations, and the tables that the migrations made.
fn migrations(app: &Application<'_>, restored: &dyn Tree, database: &dyn Database, tables: &[String]) -> Vec<Check> {
    let name = |what: &str| format!("{}: {what}", database.item());
    let wanted = app.migrations_table();
    let Some(table) = tables.iter().find(|known| is_table(known, &wanted)) else {
        let written = restored.find(&["database/migrations/*.php"], &[], 1).is_ok_and(|found| !found.is_empty());
        let verdict = if written { Verdict::Fail } else { Verdict::Warn };
        return vec![Check::new(name("migrations"), verdict, format!("the table `{wanted}` is missing"))];
    };
    let rows = match database.count_rows(table) {
        Ok(0) => return vec![Check::new(name("migrations"), Verdict::Fail, format!("the table `{table}` is empty"))],
        Ok(rows) => rows,
        Err(error) => return vec![Check::new(name("migrations"), Verdict::Fail, error.text())],
    };
    let mut checks = vec![Check::new(name("migrations"), Verdict::Pass, format!("{rows} rows"))];
    let seen: Vec<String> = database.sample(table, "migration", SAMPLE).unwrap_or_default().into_iter().flatten().collect();
    // Of more than can be looked at, every one that is there has run: only a deployment under way says otherwise.
    let all_seen = rows <= u64::from(SAMPLE);
    let made = models::tables_of_migrations(restored, &|migration| !all_seen || seen.iter().any(|name| name == migration));
    let missing: Vec<String> = made
        .iter()
        .filter(|(table, _)| !tables.iter().any(|known| is_table(known, table)))
        .map(|(table, migration)| format!("`{table}` (made by {migration})"))
        .collect();
    checks.extend((!made.is_empty()).then(|| match (missing.as_slice(), all_seen) {
        ([], _) => Check::new(name("tables of the migrations"), Verdict::Pass, format!("all {} are there", made.len())),
        (missing, true) => Check::new(name("tables of the migrations"), Verdict::Fail, format!("missing: {}", missing.join(", "))),
        (missing, false) => Check::new(name("tables of the migrations"), Verdict::Warn, format!("missing: {}", missing.join(", "))),
    }));
    checks
}

/// A connection may put a prefix before every table's name.
fn is_table(known: &str, wanted: &str) -> bool {
    known == wanted || known.ends_with(&format!("_{wanted}"))
}

/// Values that are stored encrypted open with the key that was restored.
fn stored_values(cx: &Context<LaravelSettings>, app: &Application<'_>, restored: &dyn Tree, databases: &[&dyn Database]) -> Check {
    let name = "APP_KEY decrypts";
    let keys = cipher::keys(app);
    let Some(database) = databases.iter().find(|database| database.item() == MAIN) else {
        let chosen = cx.settings.connections.as_ref().is_some_and(|names| !names.iter().any(|name| name == "main"));
        let (verdict, why) = match chosen {
            true => (Verdict::Pass, "the application's database is not backed up, as the setting `connections` has it: nothing was tried"),
            false => (Verdict::Skipped, "the application's database was not restored"),
        };
        return Check::new(name, verdict, why);
    };
    let named = cx.settings.encrypted_columns.iter().filter_map(|text| text.split_once('.'));
    let named: Vec<(String, String)> = named.map(|(table, column)| (table.to_owned(), column.to_owned())).collect();
    let mut opened = Vec::new();
    let mut shut = Vec::new();
    let mut lost = Vec::new();
    for (table, column) in named.iter().cloned().chain(models::encrypted_columns(restored)) {
        let Ok(values) = database.sample(&table, &column, SAMPLE) else {
            if named.contains(&(table.clone(), column.clone())) {
                return Check::new(name, Verdict::Fail, format!("`encrypted_columns` names {table}.{column}, which cannot be read"));
            }
            continue;
        };
        let values: Vec<Encrypted> = values.iter().flatten().filter_map(|value| Encrypted::parse(value)).collect();
        let good = values.iter().filter(|value| keys.iter().any(|key| value.opens_with(key))).count();
        opened.extend((good > 0).then(|| format!("{good} of {table}.{column}")));
        let bad = values.len() - good;
        if good == 0 && bad > 0 {
            lost.push(format!("{bad} of {table}.{column}"));
        } else if bad > 0 {
            shut.push(format!("{bad} of {table}.{column}"));
        }
    }
    if !lost.is_empty() {
        return Check::new(name, Verdict::Fail, format!("neither APP_KEY nor APP_PREVIOUS_KEYS opens {}", lost.join(", ")));
    }
    match (opened.as_slice(), shut.as_slice()) {
        // An application may well have none. The key itself is looked at by `app_key`.
        ([], []) => Check::new(
            name,
            Verdict::Pass,
            "no encrypted value was found, so that nothing was there to open with it; name columns at the setting `encrypted_columns`",
        ),
        (opened, []) => Check::new(name, Verdict::Pass, format!("opened {}", opened.join(", "))),
        (opened, shut) => Check::new(name, Verdict::Warn, format!("opened {}; not {}", opened.join(", "), shut.join(", "))),
    }
}
