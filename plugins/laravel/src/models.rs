//! What the application's own PHP says of its database, as far as plain reading goes: columns that are encrypted, and
//! tables that its migrations make.

use havun_backup_sdk::prelude::*;
use std::collections::BTreeMap;

/// Files of either kind that are read.
const MAX_FILES: u32 = 2_000;
/// Columns that packages encrypt: Fortify's and Jetstream's.
const USUAL: [(&str, &str); 2] = [("users", "two_factor_secret"), ("users", "two_factor_recovery_codes")];

/// Tables and columns that hold encrypted values: the usual ones, and those of `encrypted` casts.
pub fn encrypted_columns(root: &dyn Tree) -> Vec<(String, String)> {
    let mut columns: Vec<(String, String)> = USUAL.map(|(table, column)| (table.to_owned(), column.to_owned())).to_vec();
    for stat in root.find(&["app/**/*.php"], &[], MAX_FILES).unwrap_or_default() {
        let Some(text) = root.text(&stat.path).filter(|text| text.contains("ncrypted")) else { continue };
        let table = table_of(&text, &stat.path);
        columns.extend(casts(&text).into_iter().map(|column| (table.clone(), column)));
    }
    columns.dedup();
    columns
}

/// `protected $table = 'x'`, or the class's name as Laravel makes a table's of it.
fn table_of(text: &str, path: &str) -> String {
    let declared = text.split_once("$table").and_then(|(_, rest)| {
        let value = rest.trim_start().strip_prefix('=')?.trim_start();
        literal(value).map(|(name, _)| name.to_owned())
    });
    let class = path.rsplit('/').next().unwrap_or(path).trim_end_matches(".php");
    declared.unwrap_or_else(|| plural(&snake(class)))
}

/// Columns cast to `encrypted`, `encrypted:array`, `AsEncryptedCollection::class`, …
fn casts(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("=>") {
        let value = after.trim_start();
        let is_encrypted = literal(value).is_some_and(|(cast, _)| cast == "encrypted" || cast.starts_with("encrypted:"))
            || value.split("::class").next().is_some_and(|class| class.len() < 200 && is_class(class) && class.contains("AsEncrypted"));
        if let Some(column) = Some(before.trim_end()).filter(|_| is_encrypted).and_then(last_literal) {
            found.push(column.to_owned());
        }
        rest = after;
    }
    found
}

fn is_class(text: &str) -> bool {
    text.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '\\'))
}

/// A quoted text at the start, and what follows it.
fn literal(text: &str) -> Option<(&str, &str)> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    text.get(1..)?.split_once(quote)
}

/// A quoted text at the end.
fn last_literal(text: &str) -> Option<&str> {
    let quote = text.chars().next_back().filter(|c| matches!(c, '\'' | '"'))?;
    text.get(..text.len() - 1)?.rsplit_once(quote).map(|(_, inner)| inner)
}

fn snake(class: &str) -> String {
    let mut name = String::new();
    for (place, c) in class.chars().enumerate() {
        if c.is_uppercase() && place > 0 {
            name.push('_');
        }
        name.extend(c.to_lowercase());
    }
    name
}

/// As far as English goes without its exceptions.
fn plural(name: &str) -> String {
    let vowel_before_y = |stem: &str| stem.ends_with(['a', 'e', 'i', 'o', 'u']);
    match name.strip_suffix('y') {
        Some(stem) if !vowel_before_y(stem) => format!("{stem}ies"),
        _ if ["s", "x", "z", "ch", "sh"].iter().any(|end| name.ends_with(end)) => format!("{name}es"),
        _ => format!("{name}s"),
    }
}

/// Tables that the migrations, taken together, leave behind, each with the migration that made it. Only those of the
/// default connection whose names stand there in plain text.
pub fn tables_of_migrations(root: &dyn Tree, has_run: &dyn Fn(&str) -> bool) -> BTreeMap<String, String> {
    let mut tables = BTreeMap::new();
    let files = root.find(&["database/migrations/*.php"], &[], MAX_FILES).unwrap_or_default();
    for stat in files {
        let name = stat.path.rsplit('/').next().unwrap_or_default().trim_end_matches(".php").to_owned();
        let Some(text) = root.text(&stat.path).filter(|_| has_run(&name)) else { continue };
        let up = text.split_once("function up").map_or("", |(_, rest)| rest.split("function down").next().unwrap_or_default());
        follow(up, &name, &mut tables);
    }
    tables
}

fn follow(up: &str, migration: &str, tables: &mut BTreeMap<String, String>) {
    for call in up.split("Schema::").skip(1) {
        let Some((method, arguments)) = call.split_once('(') else { continue };
        let first = literal(arguments.trim_start());
        match (method.trim(), first) {
            ("create", Some((table, _))) => drop(tables.insert(table.to_owned(), migration.to_owned())),
            ("drop" | "dropIfExists", Some((table, _))) => drop(tables.remove(table)),
            ("rename", Some((from, rest))) => {
                let to = rest.trim_start().strip_prefix(',').and_then(|rest| literal(rest.trim_start()));
                if let (Some(by), Some((to, _))) = (tables.remove(from), to) {
                    tables.insert(to.to_owned(), by);
                }
            }
            // Whatever else may take a table away by a name that is not written here.
            ("drop" | "dropIfExists" | "rename", None) | ("dropAllTables", _) => tables.clear(),
            _ => {}
        }
    }
    // Statements in SQL are not followed: a table that one of them names is not expected.
    for raw in ["DB::statement", "DB::unprepared", "->exec("] {
        for call in up.split(raw).skip(1) {
            let words = call.split(';').next().unwrap_or_default().split(|c: char| !c.is_alphanumeric() && c != '_');
            words.for_each(|word| drop(tables.remove(word)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn casts_and_tables_are_read() {
        let model = "class BankAccount extends Model { protected $casts = ['iban' => 'encrypted', \"notes\" => 'encrypted:array',
            'name' => 'string', 'meta' => AsEncryptedCollection::class, 'raw' => \\App\\Casts\\Raw::class]; }";
        assert_eq!(casts(model), ["iban", "notes", "meta"]);
        assert_eq!(table_of(model, "app/Models/BankAccount.php"), "bank_accounts");
        assert_eq!(table_of("protected $table = 'konten';", "app/Models/X.php"), "konten");
        assert_eq!((plural("category").as_str(), plural("key").as_str(), plural("box").as_str()), ("categories", "keys", "boxes"));
    }

    #[test]
    fn migrations_are_followed_to_their_end() {
        let up = |body: &str| format!("public function up() {{ {body} }} public function down() {{ Schema::dropIfExists('a'); }}");
        let tree = FakeTree::new()
            .file("database/migrations/1_a.php", up("Schema::create('a', function() {}); Schema::create(\"b\", f);"))
            .file("database/migrations/2_b.php", up("Schema::rename('b', 'c'); Schema::create($name, f); Schema::table('a', f);"))
            .file("database/migrations/3_c.php", up("Schema::create('d', f); Schema::create('e', f); DB::statement('DROP TABLE e');"))
            .file("database/migrations/4_d.php", up("Schema::create('later', f);"));
        let all = tables_of_migrations(&tree, &|name| name != "4_d");
        let told: Vec<(&str, &str)> = all.iter().map(|(table, by)| (table.as_str(), by.as_str())).collect();
        assert_eq!(told, [("a", "1_a"), ("c", "1_a"), ("d", "3_c")]);
    }
}
