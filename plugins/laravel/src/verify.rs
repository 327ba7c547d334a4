//! Is the restored application whole?

use crate::{database::Application, settings::LaravelSettings};
use havun_backup_sdk::prelude::*;

/// Files without which nothing runs.
const REQUIRED: [&str; 4] = ["artisan", "composer.json", "bootstrap/app.php", "public/index.php"];

/// Files, key, and every restored database.
pub fn checks(cx: &Context<LaravelSettings>, restored: &dyn Tree, databases: &[&dyn Database]) -> Vec<Check> {
    let app = Application::read(restored, &cx.settings.env_file);
    let mut checks = vec![required_files(restored), lock_file(restored), app_key(&app), uploads(restored)];
    for database in databases {
        checks.extend(database_checks(*database));
    }
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

fn uploads(restored: &dyn Tree) -> Check {
    if restored.is_dir("storage/app") || restored.stat("storage").ok().flatten().is_some_and(|stat| stat.kind == "symlink") {
        Check::new("storage/app", Verdict::Pass, "there")
    } else {
        Check::new("storage/app", Verdict::Warn, "not in the restored tree")
    }
}

fn database_checks(database: &dyn Database) -> Vec<Check> {
    let name = |what: &str| format!("{}: {what}", database.item());
    let tables = match database.tables() {
        Ok(tables) => tables,
        Err(error) => return vec![Check::new(name("tables"), Verdict::Fail, error.text())],
    };
    let mut checks = vec![match tables.len() {
        0 => Check::new(name("tables"), Verdict::Fail, "none"),
        count => Check::new(name("tables"), Verdict::Pass, format!("{count} tables")),
    }];
    // What an application in use has rows in.
    for table in ["migrations", "users"].into_iter().filter(|table| tables.iter().any(|known| known == table)) {
        checks.push(match database.count_rows(table) {
            Ok(0) => Check::new(name(table), Verdict::Warn, "no rows"),
            Ok(rows) => Check::new(name(table), Verdict::Pass, format!("{rows} rows")),
            Err(error) => Check::new(name(table), Verdict::Fail, error.text()),
        });
    }
    checks
}
