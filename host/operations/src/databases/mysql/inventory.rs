//! What is in a database, and whether the user sees all of it.

use super::super::DatabaseError;
use super::{
    client::{Clients, Flavour, Version, literal, quoted, version_in},
    grants::Grants,
    scan::Objects,
};
use havun_model::Cancel;
use std::collections::BTreeMap;

/// Tables up to this size are given a checksum, in bytes …
const CHECKSUM_TABLE: u64 = 16 << 20;
/// … until this much has been read.
const CHECKSUM_TOTAL: u64 = 64 << 20;

/// A server's word on one database.
#[derive(Debug, Default)]
pub(super) struct Inventory {
    pub server: String,
    pub flavour_is_mariadb: bool,
    pub version: Version,
    /// `user@host` as the server took it.
    pub user: String,
    pub charset: String,
    pub collation: String,
    pub exists: bool,
    /// Tables that hold rows, with engine and size in bytes.
    pub tables: BTreeMap<String, (String, u64)>,
    pub objects: Objects,
    pub has_history: bool,
    /// Tables with history.
    pub versioned: Vec<String>,
    pub float_tables: Vec<String>,
    pub view_names: Vec<String>,
    pub sequence_names: Vec<String>,
    /// (`PROCEDURE`, name)
    pub routine_names: Vec<(String, String)>,
    pub event_names: Vec<String>,
    pub trigger_names: Vec<String>,
    /// Columns whose default is the next number of a sequence: table, column, sequence.
    pub sequence_defaults: Vec<(String, String, String)>,
    /// In bytes.
    pub max_allowed_packet: String,
    hidden_routines: Vec<String>,
    pub position: String,
    grants: Vec<String>,
}

impl Inventory {
    /// Asks for everything in one session.
    pub(super) fn take(clients: &Clients, database: &str, describe: &str, cancel: &Cancel) -> Result<Self, DatabaseError> {
        let name = literal(database);
        let sql = format!(
            "SELECT 'server', VERSION(), @@version_comment;
            SELECT 'user', CURRENT_USER();
            SELECT 'schema', DEFAULT_CHARACTER_SET_NAME, DEFAULT_COLLATION_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = {name};
            SELECT 'table', TABLE_NAME, TABLE_TYPE, COALESCE(ENGINE, ''), COALESCE(DATA_LENGTH, 0) FROM information_schema.TABLES WHERE TABLE_SCHEMA = {name};
            SELECT 'routine', ROUTINE_NAME, ROUTINE_TYPE, ROUTINE_DEFINITION IS NULL FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = {name};
            SELECT 'trigger', TRIGGER_NAME FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = {name};
            SELECT 'event', EVENT_NAME FROM information_schema.EVENTS WHERE EVENT_SCHEMA = {name};
            SELECT DISTINCT 'float', TABLE_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = {name} AND DATA_TYPE = 'float';
            SELECT 'default', TABLE_NAME, COLUMN_NAME, COLUMN_DEFAULT FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = {name} AND COLUMN_DEFAULT LIKE 'nextval(%';
            SHOW GLOBAL VARIABLES WHERE Variable_name IN ('gtid_binlog_pos', 'gtid_executed', 'max_allowed_packet');
            SHOW GRANTS;"
        );
        let mut inventory = Self::default();
        for row in clients.query(&sql, describe, cancel)? {
            inventory.row(&row);
        }
        Ok(inventory)
    }

    fn row(&mut self, row: &[String]) {
        let row: Vec<&str> = row.iter().map(String::as_str).collect();
        match row.as_slice() {
            ["server", version, comment] => {
                self.flavour_is_mariadb = version.contains("MariaDB") || comment.contains("MariaDB");
                self.version = version_in(version);
                (*version).clone_into(&mut self.server);
            }
            ["user", user] => (*user).clone_into(&mut self.user),
            ["schema", charset, collation] => {
                (self.charset, self.collation, self.exists) = ((*charset).to_owned(), (*collation).to_owned(), true);
            }
            ["table", name, kind, engine, size] => self.table(name, kind, engine, size.parse().unwrap_or_default()),
            ["routine", name, kind, hidden] => {
                self.objects.routines += 1;
                self.routine_names.push(((*kind).to_owned(), (*name).to_owned()));
                if *hidden == "1" {
                    self.hidden_routines.push((*name).to_owned());
                }
            }
            ["trigger", name] => {
                self.objects.triggers += 1;
                self.trigger_names.push((*name).to_owned());
            }
            ["default", table, column, default] => {
                self.sequence_defaults.extend(sequence_in(default).map(|sequence| ((*table).to_owned(), (*column).to_owned(), sequence)));
            }
            ["max_allowed_packet", bytes] => (*bytes).clone_into(&mut self.max_allowed_packet),
            ["event", name] => {
                self.objects.events += 1;
                self.event_names.push((*name).to_owned());
            }
            ["float", table] => self.float_tables.push((*table).to_owned()),
            [variable @ ("gtid_binlog_pos" | "gtid_executed"), set] if !set.is_empty() => self.position = format!("{variable} {set}"),
            [grant] if grant.starts_with("GRANT ") => self.grants.push((*grant).to_owned()),
            _ => {}
        }
    }

    fn table(&mut self, name: &str, kind: &str, engine: &str, size: u64) {
        match kind {
            "VIEW" => {
                self.objects.views += 1;
                self.view_names.push(name.to_owned());
            }
            "SEQUENCE" => {
                self.objects.sequences += 1;
                self.sequence_names.push(name.to_owned());
            }
            _ => {
                if kind == "SYSTEM VERSIONED" {
                    self.has_history = true;
                    self.versioned.push(name.to_owned());
                }
                self.objects.tables.insert(name.to_owned());
                self.tables.insert(name.to_owned(), (engine.to_owned(), size));
            }
        }
    }

    pub(super) fn flavour(&self) -> Flavour {
        if self.flavour_is_mariadb { Flavour::MariaDb } else { Flavour::MySql }
    }

    /// What is in it, in words; `None` when it holds nothing.
    pub(super) fn content(&self) -> Option<String> {
        let parts = self.objects.counts().into_iter().filter(|(_, count)| *count > 0).map(|(kind, count)| format!("{count} {kind}"));
        Some(parts.collect::<Vec<_>>().join(", ")).filter(|text| !text.is_empty())
    }

    /// # Errors
    /// [`DatabaseError::Privileges`] when a dump by this user could leave something out.
    pub(super) fn check_privileges(&self, database: &str) -> Result<(), DatabaseError> {
        let grants = Grants::parse(self.grants.iter().map(String::as_str));
        let needs = [("SELECT", "tables"), ("SHOW VIEW", "views"), ("TRIGGER", "triggers"), ("EVENT", "events")];
        let (mut lacking, mut missing): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
        for (privilege, what) in needs {
            if !grants.has(privilege, database) {
                missing.push(privilege);
                lacking.push(what);
            }
        }
        let user = account(&self.user);
        let mut statements = Vec::new();
        if !missing.is_empty() {
            statements.push(format!("GRANT {} ON {}.* TO {user};", missing.join(", "), quoted(database)));
        }
        if !self.sees_routines(&grants, database) {
            lacking.push("procedures and functions");
            statements.push(self.routine_grant(database, &user));
        }
        if statements.is_empty() {
            return Ok(());
        }
        Err(DatabaseError::Privileges { user, lacking: lacking.join(", "), grant: statements.join(" ") })
    }

    /// Who we are, as a definer is written in a dump.
    pub(super) fn account(&self) -> String {
        let (name, host) = self.user.rsplit_once('@').unwrap_or((&self.user, "%"));
        format!("{}@{}", quoted(name), quoted(host))
    }

    /// Whether the user may make views, triggers, routines and events that run as somebody else.
    pub(super) fn may_define_for_others(&self) -> bool {
        let grants = Grants::parse(self.grants.iter().map(String::as_str));
        ["SUPER", "SET USER", "SET_USER_ID", "SET_ANY_DEFINER"].iter().any(|privilege| grants.has_everywhere(privilege))
    }

    fn sees_routines(&self, grants: &Grants, database: &str) -> bool {
        let by_database = ["EXECUTE", "ALTER ROUTINE", "CREATE ROUTINE", "SHOW CREATE ROUTINE"];
        let names = by_database.iter().any(|privilege| grants.has(privilege, database))
            || grants.has("SHOW_ROUTINE", database)
            || self.flavour_is_mariadb && grants.has_on_table("SELECT", "mysql", "proc")
            || !self.flavour_is_mariadb && grants.has_everywhere("SELECT");
        names && self.hidden_routines.is_empty()
    }

    fn routine_grant(&self, database: &str, user: &str) -> String {
        match self.flavour() {
            Flavour::MariaDb if self.version >= (11, 3, 0) => format!("GRANT SHOW CREATE ROUTINE ON {}.* TO {user};", quoted(database)),
            Flavour::MariaDb => format!("GRANT SELECT ON `mysql`.`proc` TO {user};"),
            Flavour::MySql => format!("GRANT SHOW_ROUTINE ON *.* TO {user};"),
        }
    }

    pub(super) fn warnings(&self) -> Vec<String> {
        let loose: Vec<&str> =
            self.tables.iter().filter(|(_, (engine, _))| !is_transactional(engine)).map(|(name, _)| name.as_str()).collect();
        let mut warnings = Vec::new();
        if !loose.is_empty() {
            warnings.push(format!("not covered by the snapshot, as their engine has no transactions: {}", loose.join(", ")));
        }
        if !self.float_tables.is_empty() {
            warnings.push(format!("FLOAT columns keep six digits in a dump (DOUBLE keeps all): {}", self.float_tables.join(", ")));
        }
        warnings
    }

    /// Tables that are cheap to sum, and whose sums a dump can keep.
    pub(super) fn summable(&self) -> Vec<&str> {
        let mut left = CHECKSUM_TOTAL;
        let mut tables = Vec::new();
        for (name, (_, size)) in &self.tables {
            if *size <= CHECKSUM_TABLE.min(left) && !self.float_tables.contains(name) {
                left -= size;
                tables.push(name.as_str());
            }
        }
        tables
    }
}

/// `CHECKSUM TABLE … EXTENDED` for each of `tables`.
pub(super) fn checksums(
    clients: &Clients,
    database: &str,
    tables: &[&str],
    describe: &str,
    cancel: &Cancel,
) -> Result<BTreeMap<String, String>, DatabaseError> {
    if tables.is_empty() {
        return Ok(BTreeMap::new());
    }
    let list: Vec<String> = tables.iter().map(|table| format!("{}.{}", quoted(database), quoted(table))).collect();
    let rows = clients.query(&format!("CHECKSUM TABLE {} EXTENDED;", list.join(", ")), describe, cancel)?;
    let prefix = format!("{database}.");
    let sum = |row: Vec<String>| match row.as_slice() {
        [table, sum] if sum != "NULL" => table.strip_prefix(&prefix).map(|table| (table.to_owned(), sum.clone())),
        _ => None,
    };
    Ok(rows.into_iter().filter_map(sum).collect())
}

/// The sequence in ``nextval(`shop`.`numbers`)``.
fn sequence_in(default: &str) -> Option<String> {
    let (_, rest) = super::lexer::identifier(default.strip_prefix("nextval(")?.as_bytes())?;
    super::lexer::identifier(rest.strip_prefix(b".")?).map(|(sequence, _)| sequence)
}

fn is_transactional(engine: &str) -> bool {
    ["InnoDB", "ROCKSDB", "TokuDB", "ndbcluster"].iter().any(|known| known.eq_ignore_ascii_case(engine))
}

/// `user@host` as `'user'@'host'`.
fn account(user: &str) -> String {
    let (name, host) = user.rsplit_once('@').unwrap_or((user, "%"));
    format!("{}@{}", literal(name), literal(host))
}
