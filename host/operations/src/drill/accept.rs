//! What may stay unproven: `accept_unproven` in `[drill]` and in the project's own section.
//!
//! An entry is an engine, or the name of a check as a certificate gives it. Nothing is ever accepted that failed: only what
//! could not be looked at.

use super::Accepted;
use crate::{
    config::{Config, ENGINES, ProjectConfig},
    databases,
};

/// Every entry, and where it stands.
pub(super) struct Acceptance<'a> {
    entries: Vec<(&'a str, String)>,
}

impl<'a> Acceptance<'a> {
    pub fn of(config: &'a Config, project: &'a ProjectConfig) -> Self {
        let path = config.path.display();
        let of_all = config.drill.accept_unproven.iter().map(|entry| (entry.as_str(), format!("[drill] in {path}")));
        let own = project.drill.accept_unproven.iter();
        let own = own.map(|entry| (entry.as_str(), format!("[projects.{}.drill] in {path}", project.name)));
        Self { entries: of_all.chain(own).collect() }
    }

    /// A database whose dump could not be loaded.
    pub fn database(&self, engine: &str, what: &str) -> Option<Accepted> {
        self.by(what, |entry| entry == engine)
    }

    /// A check that was skipped. `lacking` is an engine of which a database is missing to it by acceptance: where no check is
    /// named at all, that accepts it.
    pub fn check(&self, name: &str, lacking: Option<&str>, what: &str) -> Option<Accepted> {
        let is_check = |entry: &str| !ENGINES.contains(&entry);
        let named = self.by(what, |entry| is_check(entry) && databases::glob_matches(entry, name));
        let names_any = self.entries.iter().any(|(entry, _)| is_check(entry));
        named.or_else(|| self.database(lacking.filter(|_| !names_any)?, what))
    }

    fn by(&self, what: &str, matches: impl Fn(&str) -> bool) -> Option<Accepted> {
        let (entry, place) = self.entries.iter().find(|(entry, _)| matches(entry))?;
        Some(Accepted { what: what.to_owned(), by: format!("`{entry}` at accept_unproven of {place}") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acceptance<'a>(entries: &[&'a str]) -> Acceptance<'a> {
        Acceptance { entries: entries.iter().map(|entry| (*entry, "[drill] in /etc/c.toml".to_owned())).collect() }
    }

    #[test]
    fn an_engine_alone_accepts_the_checks_beside_it_and_named_checks_only_themselves() {
        let engine = acceptance(&["mongodb"]);
        assert!(engine.database("mongodb", "x").is_some() && engine.database("redis", "x").is_none());
        assert!(engine.check("APP_KEY decrypts", Some("mongodb"), "x").is_some());
        assert!(engine.check("APP_KEY decrypts", None, "x").is_none(), "no database is missing: it was skipped for another reason");
        let named = acceptance(&["mongodb", "database: *"]);
        assert!(named.database("mongodb", "x").is_some());
        assert!(named.check("database: migrations", None, "x").is_some());
        assert!(named.check("APP_KEY decrypts", Some("mongodb"), "x").is_none());
        let accepted = named.check("database: migrations", None, "it was not loaded").unwrap();
        assert_eq!(accepted.what, "it was not loaded");
        assert_eq!(accepted.by, "`database: *` at accept_unproven of [drill] in /etc/c.toml");
    }
}
