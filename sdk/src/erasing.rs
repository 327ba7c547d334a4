//! The erase step: rules, and the setting that most strategies make them of.

use crate::{EraseRule, Error, Replacement, RestoredItem, Result, settings::SettingType};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What the register hashes unless a rule says otherwise.
const NORMAL_FORM: [&str; 2] = ["trim", "lower"];

impl EraseRule {
    fn of(item: &str, kind: &str) -> Self {
        Self {
            item: item.to_owned(),
            kind: kind.to_owned(),
            table: String::new(),
            column: String::new(),
            action: String::new(),
            replacements: Vec::new(),
            pattern: String::new(),
            normalise: NORMAL_FORM.iter().map(|word| (*word).to_owned()).collect(),
            ext: Vec::new(),
        }
    }

    /// Deletes the rows of `table` whose `column` holds the identifier of somebody in the register.
    pub fn delete_rows(item: &str, table: &str, column: &str) -> Self {
        let rule = Self::of(item, "rows");
        Self { table: table.to_owned(), column: column.to_owned(), action: "delete".to_owned(), ..rule }
    }

    /// Keeps such rows, and gives the columns of `values` these values; `None` is NULL.
    pub fn replace_in_rows<'a>(
        item: &str,
        table: &str,
        column: &str,
        values: impl IntoIterator<Item = (&'a str, Option<&'a str>)>,
    ) -> Self {
        let replacement =
            |(column, value): (&str, Option<&str>)| Replacement { column: column.to_owned(), value: value.map(str::to_owned) };
        let replacements = values.into_iter().map(replacement).collect();
        Self { action: "replace".to_owned(), replacements, ..Self::delete_rows(item, table, column) }
    }

    /// Removes what `pattern` finds in a tree: its last component holds `{subject}` (the identifier) or `{hash}`.
    pub fn files(item: &str, pattern: &str) -> Self {
        Self { pattern: pattern.to_owned(), ..Self::of(item, "files") }
    }

    /// Compares values as they are, and not without white space and in small letters.
    #[must_use]
    pub fn exact(mut self) -> Self {
        self.normalise.clear();
        self
    }
}

/// One rule as an operator writes it:
/// `{ table = "users", column = "email" }`,
/// `{ table = "orders", column = "email", clear = ["name"], replace = { email = "erased" } }` or
/// `{ files = "storage/avatars/{subject}.png" }`.
#[derive(Debug, Clone, Default, PartialEq, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EraseSetting {
    /// The item; the application's own database or tree unless said.
    pub item: String,
    /// The table.
    pub table: String,
    /// The column that holds the identifier.
    pub column: String,
    /// `delete` (unless said) or `replace` (where `clear` or `replace` says what).
    pub action: String,
    /// Columns that become NULL.
    pub clear: Vec<String>,
    /// Columns and what they are given.
    pub replace: BTreeMap<String, String>,
    /// In place of a table: files and folders.
    pub files: String,
    /// Compare values as they are.
    pub exact: bool,
}

impl SettingType for EraseSetting {
    fn schema() -> Value {
        let text = json!({ "type": "string" });
        json!({
            "type": "object",
            "additionalProperties": false,
            "properties": {
                "item": text, "table": text, "column": text, "files": text,
                "action": { "enum": ["delete", "replace"] },
                "clear": { "type": "array", "items": text },
                "replace": { "type": "object", "additionalProperties": text },
                "exact": { "type": "boolean" },
            },
        })
    }
}

impl EraseSetting {
    /// What is wrong with it, in one line.
    fn fault(&self) -> Option<String> {
        let replaces = !self.clear.is_empty() || !self.replace.is_empty();
        let of_rows = !self.table.is_empty() || !self.column.is_empty() || !self.action.is_empty() || replaces;
        let fault = match (self.files.is_empty(), of_rows) {
            (true, false) => "needs `table` and `column`, or `files`",
            (false, true) => "has `files` and a table: make two rules of it",
            (false, false) => return None,
            (true, true) if self.table.is_empty() || self.column.is_empty() => "needs both `table` and `column`",
            (true, true) => match self.action.as_str() {
                "delete" if replaces => "deletes the rows and replaces columns of them: keep one",
                "replace" if !replaces => "needs `clear` or `replace` to say which columns",
                "" | "delete" | "replace" => return None,
                _ => "has an unknown `action`: use `delete` or `replace`",
            },
        };
        Some(fault.to_owned())
    }

    fn rule(&self, items: &[RestoredItem]) -> Result<Option<EraseRule>> {
        let (kind, usual) = if self.files.is_empty() { ("database", "database") } else { ("tree", "") };
        let mut of_kind = items.iter().filter(|item| item.kind == kind);
        let item = match self.item.as_str() {
            "" => {
                let named = of_kind.clone().find(|item| item.name == usual);
                let only = of_kind.clone().count() == 1 || kind == "tree";
                match named.or_else(|| of_kind.next().filter(|_| only)) {
                    Some(item) => item,
                    None if of_kind.next().is_none() && !items.iter().any(|item| item.kind == kind) => return Ok(None),
                    None => {
                        return Err(Error::Invalid(format!("there are several databases: the erasure of `{}` needs `item`", self.table)));
                    }
                }
            }
            // Not everything is restored each time.
            name => match of_kind.find(|item| item.name == name) {
                Some(item) => item,
                None => return Ok(None),
            },
        };
        let rule = if self.files.is_empty() {
            let cleared = self.clear.iter().map(|column| (column.as_str(), None));
            let replaced = self.replace.iter().map(|(column, value)| (column.as_str(), Some(value.as_str())));
            let values: Vec<_> = cleared.chain(replaced).collect();
            match values.is_empty() {
                true => EraseRule::delete_rows(&item.name, &self.table, &self.column),
                false => EraseRule::replace_in_rows(&item.name, &self.table, &self.column, values),
            }
        } else {
            EraseRule::files(&item.name, &self.files)
        };
        Ok(Some(if self.exact { rule.exact() } else { rule }))
    }
}

/// The rules of a setting for what is restored.
///
/// # Errors
/// [`Error::Invalid`] names the rule that cannot be meant.
pub fn rules(settings: &[EraseSetting], items: &[RestoredItem]) -> Result<Vec<EraseRule>> {
    if let Some(fault) = faults(settings).into_iter().next() {
        return Err(Error::Invalid(fault));
    }
    Ok(settings.iter().map(|setting| setting.rule(items)).collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
}

/// What is wrong with a setting, for the warnings of a plan: better known before somebody's data must be erased again.
pub fn faults(settings: &[EraseSetting]) -> Vec<String> {
    let numbered = (1..).zip(settings);
    numbered.filter_map(|(place, setting)| Some(format!("rule {place} of the setting `erasure` {}", setting.fault()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn restored(items: &[(&str, &str)]) -> Vec<RestoredItem> {
        items.iter().map(|(name, kind)| RestoredItem { name: (*name).to_owned(), kind: (*kind).to_owned(), complete: true }).collect()
    }

    fn read(json: &str) -> Vec<EraseSetting> {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn settings_become_rules_of_what_is_restored() {
        let settings = read(
            r#"[{"table":"users","column":"email"},
                {"table":"orders","column":"email","clear":["name"],"replace":{"email":"erased"},"item":"database-crm","exact":true},
                {"files":"avatars/{subject}"}]"#,
        );
        let all = restored(&[("app", "tree"), ("database", "database"), ("database-crm", "database")]);
        let made = rules(&settings, &all).unwrap();
        let short: Vec<_> = made.iter().map(|r| (r.item.as_str(), r.kind.as_str(), r.action.as_str(), r.normalise.len())).collect();
        assert_eq!(short, [("database", "rows", "delete", 2), ("database-crm", "rows", "replace", 0), ("app", "files", "", 2)]);
        assert_eq!(made[1].replacements.len(), 2);
        assert_eq!(rules(&settings, &restored(&[("app", "tree")])).unwrap().len(), 1, "only what is restored");
        assert_eq!(rules(&settings, &restored(&[("main.sqlite", "database")])).unwrap().len(), 1, "the only database");
        let several = restored(&[("a", "database"), ("b", "database")]);
        assert!(rules(&settings, &several).is_err());
    }

    #[test]
    fn a_rule_that_cannot_be_meant_is_named() {
        for json in [
            r#"[{}]"#,
            r#"[{"table":"users"}]"#,
            r#"[{"table":"users","column":"email","action":"drop"}]"#,
            r#"[{"table":"users","column":"email","action":"replace"}]"#,
            r#"[{"table":"users","column":"email","action":"delete","clear":["name"]}]"#,
            r#"[{"files":"x/{subject}","table":"users"}]"#,
        ] {
            let settings = read(json);
            assert!(rules(&settings, &[]).is_err(), "{json}");
            assert!(faults(&settings)[0].starts_with("rule 1 of the setting `erasure` "), "{json}");
        }
    }
}
