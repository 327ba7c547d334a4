//! Who restores, which roles there are on the server, and placeholders for those that the dump needs and that are not.

use super::{
    client::Clients,
    names::{literal, quoted},
};
use crate::databases::DatabaseError;
use havun_model::Cancel;
use std::collections::BTreeSet;

/// What the user may do on the server, and what is there.
#[derive(Debug, Clone, Default)]
pub(super) struct Standing {
    pub user: String,
    pub superuser: bool,
    pub makes_databases: bool,
    makes_roles: bool,
    pub roles: BTreeSet<String>,
    /// Roles that the user is or may act as.
    pub own: BTreeSet<String>,
    pub tablespaces: BTreeSet<String>,
    pub databases: BTreeSet<String>,
    /// `20261128t033000z` by the server's clock.
    pub time: String,
}

impl Standing {
    pub(super) fn take(clients: &Clients, place: &str, cancel: &Cancel) -> Result<Self, DatabaseError> {
        let sql = "SELECT 'user', rolname, rolsuper, rolcreatedb, rolcreaterole,
  to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYYMMDD\"t\"HH24MISS\"z\"') FROM pg_roles WHERE rolname = current_user;
SELECT 'role', rolname, pg_has_role(oid, 'MEMBER') FROM pg_roles;
SELECT 'tablespace', spcname FROM pg_tablespace;
SELECT 'database', datname FROM pg_database;";
        let mut standing = Self::default();
        for row in clients.query(place, sql, cancel)? {
            let row: Vec<&str> = row.iter().map(String::as_str).collect();
            match row.as_slice() {
                ["user", name, superuser, databases, roles, time] => {
                    (standing.user, standing.time) = ((*name).to_owned(), (*time).to_owned());
                    standing.superuser = *superuser == "t";
                    standing.makes_databases = standing.superuser || *databases == "t";
                    standing.makes_roles = standing.superuser || *roles == "t";
                }
                ["role", name, member] => {
                    standing.roles.insert((*name).to_owned());
                    if *member == "t" {
                        standing.own.insert((*name).to_owned());
                    }
                }
                ["tablespace", name] => drop(standing.tablespaces.insert((*name).to_owned())),
                ["database", name] => drop(standing.databases.insert((*name).to_owned())),
                _ => {}
            }
        }
        Ok(standing)
    }

    /// Makes the missing ones of `needed`, without login and without a password, with `mark` as their comment. Returns those
    /// that it made.
    pub(super) fn make_roles(
        &mut self,
        needed: &BTreeSet<String>,
        mark: Option<&str>,
        clients: &Clients,
        place: &str,
        cancel: &Cancel,
    ) -> Result<Vec<String>, DatabaseError> {
        if !self.makes_roles {
            return Ok(Vec::new());
        }
        // Names of this kind are the server's own.
        let missing: Vec<String> = needed.difference(&self.roles).filter(|role| !role.starts_with("pg_")).cloned().collect();
        let comment = |role: &str| mark.map(|mark| format!("COMMENT ON ROLE {} IS {};\n", quoted(role), literal(mark))).unwrap_or_default();
        let sql: String = missing.iter().map(|role| format!("CREATE ROLE {} NOLOGIN;\n{}", quoted(role), comment(role))).collect();
        clients.query(place, &format!("BEGIN;\n{sql}COMMIT;"), cancel)?;
        self.roles.extend(missing.iter().cloned());
        Ok(missing)
    }
}

/// Drops the roles that were made with this mark, and no others.
pub(super) fn drop_marked(mark: &str, clients: &Clients, place: &str, cancel: &Cancel) -> Result<(), DatabaseError> {
    let sql = format!("SELECT rolname FROM pg_roles WHERE shobj_description(oid, 'pg_authid') = {};", literal(mark));
    let marked = clients.query(place, &sql, cancel)?;
    let sql: String = marked.iter().flatten().map(|role| format!("DROP ROLE IF EXISTS {};\n", quoted(role))).collect();
    if sql.is_empty() { Ok(()) } else { clients.query(place, &sql, cancel).map(|_| ()) }
}
