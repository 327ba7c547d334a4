//! A proved scratch database takes the place of the target.

use super::{
    names::{literal, quoted, with_suffix},
    restore::Job,
};
use crate::databases::DatabaseError;
use havun_model::Cancel;

/// How often the sessions of the target are ended before that is given up.
const ATTEMPTS: u32 = 3;

impl Job<'_> {
    /// Renames. Returns the name under which the content that was there before is kept.
    pub(super) fn swap(&mut self, scratch: &str, occupied: bool) -> Result<Option<String>, DatabaseError> {
        let Some(present) = self.present.clone() else {
            let sql = format!("ALTER DATABASE {} RENAME TO {};", quoted(scratch), quoted(&self.database));
            return self.admin(&sql).map(|_| None).map_err(|error| self.not_swapped(error));
        };
        let kept = self.kept_name();
        let swapped = (1..=ATTEMPTS).find_map(|attempt| match self.rename(scratch, &kept, present.allows_connections) {
            Ok(()) => Some(Ok(())),
            Err(error) if attempt == ATTEMPTS || self.cancel.is_cancelled() => Some(Err(error)),
            Err(_) => None,
        });
        if let Some(Err(error)) = swapped {
            self.allow_again(present.allows_connections);
            return Err(self.not_swapped(error));
        }
        if occupied { Ok(Some(kept)) } else { Ok(self.drop_if_empty(kept)) }
    }

    /// New connections are refused, present ones ended, both names changed at once. It goes to the server as one
    /// message, so that it ends well even when we do not live to see it.
    fn rename(&self, scratch: &str, kept: &str, allow: bool) -> Result<(), DatabaseError> {
        let (target, name) = (quoted(&self.database), literal(&self.database));
        let sql = format!(
            "BEGIN\\; ALTER DATABASE {target} WITH ALLOW_CONNECTIONS false\\; COMMIT\\; \
             SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = {name} AND pid <> pg_backend_pid()\\; \
             BEGIN\\; ALTER DATABASE {target} RENAME TO {}\\; ALTER DATABASE {} RENAME TO {target}\\; \
             ALTER DATABASE {} WITH ALLOW_CONNECTIONS {allow}\\; ALTER DATABASE {target} WITH ALLOW_CONNECTIONS {allow}\\; COMMIT;",
            quoted(kept),
            quoted(scratch),
            quoted(kept)
        );
        self.admin(&sql).map(|_| ())
    }

    fn allow_again(&self, allow: bool) {
        let sql = format!("ALTER DATABASE {} WITH ALLOW_CONNECTIONS {allow};", quoted(&self.database));
        let _ = self.clients.query(&self.place, &sql, &Cancel::default());
    }

    fn not_swapped(&self, source: DatabaseError) -> DatabaseError {
        DatabaseError::NotSwapped { database: self.describe.clone(), source: Box::new(source) }
    }

    fn kept_name(&self) -> String {
        let stem = format!("_before_{}", self.standing.time);
        let name = |n: u32| with_suffix(&self.database, &if n == 1 { stem.clone() } else { format!("{stem}_{n}") });
        (1..).map(name).find(|name| !self.standing.databases.contains(name)).unwrap_or_else(|| name(0))
    }

    /// An empty database was replaced; somebody may have filled it meanwhile.
    fn drop_if_empty(&mut self, kept: String) -> Option<String> {
        let empty = matches!(self.content(&kept), Ok(None));
        let dropped = empty && self.admin(&format!("DROP DATABASE {};", quoted(&kept))).is_ok();
        (!dropped).then_some(kept)
    }
}
