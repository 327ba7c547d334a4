//! What a user may see, read from `SHOW GRANTS`. A dump leaves out without a word what its user may not see, so this
//! is asked first.

/// One line of `SHOW GRANTS`.
struct Grant {
    /// Upper case; `ALL PRIVILEGES` stands for every other.
    privileges: Vec<String>,
    /// `*` or a name, in which `%` and `_` match unless a backslash is before them.
    database: String,
    /// None for all of them.
    table: Option<String>,
}

/// Everything that a user has been granted.
pub(super) struct Grants(Vec<Grant>);

impl Grants {
    pub(super) fn parse<'a>(lines: impl IntoIterator<Item = &'a str>) -> Self {
        Self(lines.into_iter().filter_map(parse_line).collect())
    }

    /// Whether `privilege` holds for the whole of `database`.
    pub(super) fn has(&self, privilege: &str, database: &str) -> bool {
        self.0.iter().any(|grant| grant.table.is_none() && grant.gives(privilege) && grant.covers(database))
    }

    /// Whether `privilege` holds for every database.
    pub(super) fn has_everywhere(&self, privilege: &str) -> bool {
        self.0.iter().any(|grant| grant.table.is_none() && grant.gives(privilege) && grant.database == "*")
    }

    /// Whether `privilege` holds for one table, by itself or with the whole database.
    pub(super) fn has_on_table(&self, privilege: &str, database: &str, table: &str) -> bool {
        let covers = |grant: &Grant| grant.table.as_deref().is_none_or(|name| name == table) && grant.covers(database);
        self.0.iter().any(|grant| grant.gives(privilege) && covers(grant))
    }
}

impl Grant {
    fn gives(&self, privilege: &str) -> bool {
        self.privileges.iter().any(|given| given == privilege || given == "ALL PRIVILEGES" || given == "ALL")
    }

    fn covers(&self, database: &str) -> bool {
        self.database == "*" || like(self.database.as_bytes(), database.as_bytes())
    }
}

fn parse_line(line: &str) -> Option<Grant> {
    let rest = line.strip_prefix("GRANT ")?;
    let (privileges, rest) = rest.split_once(" ON ")?;
    if privileges.starts_with('`') || privileges.starts_with('\'') {
        // A role; what it gives has lines of its own while it is active.
        return None;
    }
    let (database, rest) = name(rest.strip_prefix("TABLE ").unwrap_or(rest))?;
    let (table, _) = name(rest.strip_prefix('.')?)?;
    let privileges =
        without_columns(privileges).split(',').map(|word| word.trim().to_ascii_uppercase()).filter(|word| !word.is_empty()).collect();
    Some(Grant { privileges, database, table: (table != "*").then_some(table) })
}

/// Privileges on columns say nothing of whole tables: `SELECT (a, b), INSERT` is `INSERT`.
fn without_columns(privileges: &str) -> String {
    let mut kept = String::new();
    for word in split_outside_parentheses(privileges) {
        if !word.contains('(') {
            kept.push_str(word);
            kept.push(',');
        }
    }
    kept
}

fn split_outside_parentheses(text: &str) -> Vec<&str> {
    let mut depth = 0;
    text.split(|c| {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        c == ',' && depth == 0
    })
    .collect()
}

/// `*`, or a name in backticks or double quotes, and what follows it.
fn name(text: &str) -> Option<(String, &str)> {
    if let Some(rest) = text.strip_prefix('*') {
        return Some(("*".to_owned(), rest));
    }
    let quote = text.chars().next().filter(|c| matches!(c, '`' | '"'))?;
    let mut name = String::new();
    let mut rest = text.get(1..)?;
    loop {
        let (part, after) = rest.split_once(quote)?;
        name.push_str(part);
        match after.strip_prefix(quote) {
            Some(after) => {
                name.push(quote);
                rest = after;
            }
            None => return Some((name, after)),
        }
    }
}

fn like(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern, text) {
        ([], []) => true,
        ([b'%', rest @ ..], _) => like(rest, text) || text.split_first().is_some_and(|(_, tail)| like(pattern, tail)),
        ([b'\\', escaped, rest @ ..], [first, tail @ ..]) => escaped == first && like(rest, tail),
        ([b'_', rest @ ..], [_, tail @ ..]) => like(rest, tail),
        ([wanted, rest @ ..], [first, tail @ ..]) => wanted == first && like(rest, tail),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_are_read_as_the_server_prints_them() {
        let grants = Grants::parse([
            "GRANT USAGE ON *.* TO `u`@`%` IDENTIFIED BY PASSWORD '*23'",
            "GRANT `role` TO `u`@`%`",
            "GRANT SELECT, SHOW VIEW ON `app\\_main`.* TO `u`@`%`",
            "GRANT ALL PRIVILEGES ON `dev_%`.* TO `u`@`%` WITH GRANT OPTION",
            "GRANT SELECT ON `mysql`.`proc` TO `u`@`%`",
            "GRANT SELECT (a, b), INSERT ON `app_main`.`cut``ted` TO `u`@`%`",
            "GRANT EXECUTE ON PROCEDURE `app_main`.`p` TO `u`@`%`",
        ]);
        for (privilege, database, expected) in [
            ("SELECT", "app_main", true),
            ("SELECT", "appXmain", false),
            ("TRIGGER", "app_main", false),
            ("INSERT", "app_main", false),
            ("EXECUTE", "app_main", false),
            ("EVENT", "dev_1", true),
            ("EVENT", "devXshop", true),
            ("SELECT", "mysql", false),
        ] {
            assert_eq!(grants.has(privilege, database), expected, "{privilege} {database}");
        }
        assert!(grants.has_on_table("SELECT", "mysql", "proc"));
        assert!(!grants.has_on_table("SELECT", "mysql", "user"));
        assert!(grants.has_on_table("INSERT", "app_main", "cut`ted"));
        assert!(!Grants::parse(["GRANT SELECT (a) ON `app`.`t` TO `u`@`%`"]).has_on_table("SELECT", "app", "t"));
    }
}
