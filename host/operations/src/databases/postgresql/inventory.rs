//! What is in a database, and whether the user sees it all.

use super::{
    client::{Clients, setting},
    names::{key, quoted},
    scan::Objects,
    settings::{SESSION, Settings},
};
use crate::databases::DatabaseError;
use havun_model::Cancel;
use std::collections::{BTreeMap, BTreeSet};

/// How many large objects a statement names.
const LISTED: usize = 50;

/// One look into the catalogue.
#[derive(Debug, Clone, Default)]
pub(super) struct Inventory {
    pub server: String,
    pub user: String,
    pub encoding: String,
    pub position: String,
    /// Tables that hold rows: schema and name by key.
    pub tables: BTreeMap<String, (String, String)>,
    pub objects: Objects,
    /// Roles that own something here or were granted something.
    pub roles: BTreeSet<String>,
    pub settings: Settings,
    pub reads_passwords: bool,
    schemas: u64,
    unreadable: Vec<String>,
    unreadable_schemas: BTreeSet<String>,
    unreadable_objects: Vec<String>,
    hidden_rows: Vec<String>,
    unlogged: Vec<String>,
    foreign: Vec<String>,
    policed: Vec<String>,
}

/// Objects that a user made: no schema of the system, no member of an extension, nothing that another object brought.
const OWN: &str = "n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'";

fn not_member(class: &str, oid: &str, kinds: &str) -> String {
    format!("NOT EXISTS (SELECT 1 FROM pg_depend m WHERE m.classid = '{class}'::regclass AND m.objid = {oid} AND m.deptype IN ({kinds}))")
}

fn script(server: u32) -> String {
    let of_class = not_member("pg_class", "c.oid", "'e'");
    let of_routine = not_member("pg_proc", "p.oid", "'e', 'i'");
    let of_type = not_member("pg_type", "t.oid", "'e'");
    let clones = if server >= 13 { "AND t.tgparentid = 0" } else { "" };
    let grants = "coalesce(l.lomacl, acldefault('L', l.lomowner))";
    let lax = setting("lo_compat_privileges");
    format!(
        "BEGIN TRANSACTION READ ONLY ISOLATION LEVEL REPEATABLE READ;
SELECT 'login', current_user, current_setting('server_encoding'), has_table_privilege('pg_authid', 'SELECT'),
  CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END;
SELECT 'session', s, current_setting(s) FROM unnest(ARRAY['{}']) s;
SELECT 'relation', n.nspname, c.relname, c.relkind, {of_class},
  CASE WHEN NOT has_schema_privilege(n.oid, 'USAGE') THEN 'schema' WHEN NOT has_table_privilege(c.oid, 'SELECT') THEN 'table' ELSE '' END,
  c.relkind IN ('r', 'p') AND row_security_active(c.oid), c.relrowsecurity, c.relpersistence
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND c.relpersistence <> 't' AND {OWN} ORDER BY 2, 3;
SELECT 'count', 'routines', count(*) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE {OWN} AND {of_routine};
SELECT 'count', 'types', count(*) FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace WHERE {OWN} AND {of_type}
  AND (t.typtype IN ('e', 'd', 'r') OR t.typtype = 'c' AND (SELECT c.relkind FROM pg_class c WHERE c.oid = t.typrelid) = 'c');
SELECT 'count', 'triggers', count(*) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE NOT t.tgisinternal {clones} AND {OWN} AND {of_class} AND {};
SELECT 'count', 'event triggers', count(*) FROM pg_event_trigger t WHERE {};
SELECT 'count', 'policies', count(*) FROM pg_policy t JOIN pg_class c ON c.oid = t.polrelid WHERE {of_class};
SELECT 'count', 'extensions', count(*) FROM pg_extension WHERE oid >= 16384;
SELECT 'count', 'large objects', count(*) FROM pg_largeobject_metadata;
SELECT 'count', 'schemas', count(*) FROM pg_namespace n WHERE {OWN} AND n.oid >= 16384;
SELECT 'role', r.rolname FROM pg_roles r WHERE r.oid IN (SELECT d.refobjid FROM pg_shdepend d
  WHERE d.refclassid = 'pg_authid'::regclass AND d.dbid = (SELECT oid FROM pg_database WHERE datname = current_database()));
SELECT 'large object', l.oid FROM pg_largeobject_metadata l
  WHERE {lax} <> 'on' AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
  AND NOT pg_has_role(l.lomowner, 'USAGE') AND NOT EXISTS (SELECT 1 FROM aclexplode({grants}) a
  WHERE a.privilege_type = 'SELECT' AND (a.grantee = 0 OR pg_has_role(a.grantee, 'USAGE'))) ORDER BY l.oid;
COMMIT;",
        SESSION.join("', '"),
        not_member("pg_trigger", "t.oid", "'e'"),
        not_member("pg_event_trigger", "t.oid", "'e'"),
    )
}

impl Inventory {
    pub(super) fn take(clients: &Clients, database: &str, cancel: &Cancel) -> Result<Self, DatabaseError> {
        let settings = Settings::read(clients, database, database, cancel)?
            .ok_or_else(|| DatabaseError::NoDatabase { database: clients.describe().to_owned() })?;
        let mut inventory = Self { server: clients.server.clone(), settings, ..Self::default() };
        for row in clients.query(database, &script(clients.server_version.0), cancel)? {
            inventory.row(&row);
        }
        Ok(inventory)
    }

    fn row(&mut self, row: &[String]) {
        let row: Vec<&str> = row.iter().map(String::as_str).collect();
        match row.as_slice() {
            ["login", user, encoding, passwords, position] => {
                (self.user, self.encoding) = ((*user).to_owned(), (*encoding).to_owned());
                (self.reads_passwords, self.position) = (*passwords == "t", (*position).to_owned());
            }
            ["session", name, value] => self.settings.session.push(((*name).to_owned(), (*value).to_owned())),
            ["relation", schema, name, kind, own, denied, hidden, policed, persistence] => {
                self.relation(schema, name, kind, *own == "t");
                self.access(schema, name, kind, denied);
                let key = key(schema, name);
                let lists = [
                    (&mut self.hidden_rows, *hidden == "t"),
                    (&mut self.policed, *policed == "t"),
                    (&mut self.unlogged, *persistence == "u"),
                ];
                for (list, belongs) in lists {
                    if belongs {
                        list.push(key.clone());
                    }
                }
            }
            ["count", "schemas", count] => self.schemas = count.parse().unwrap_or_default(),
            ["count", kind, count] => self.objects.set(kind, count.parse().unwrap_or_default()),
            ["role", name] => drop(self.roles.insert((*name).to_owned())),
            ["large object", oid] => self.unreadable_objects.push((*oid).to_owned()),
            _ => {}
        }
    }

    fn relation(&mut self, schema: &str, name: &str, kind: &str, own: bool) {
        let key = key(schema, name);
        if kind == "r" {
            self.tables.insert(key.clone(), (schema.to_owned(), name.to_owned()));
        }
        if !own {
            return;
        }
        match kind {
            "v" => self.objects.add("views"),
            "m" => self.objects.add("materialized views"),
            "S" => self.objects.add("sequences"),
            "f" => {
                self.foreign.push(key.clone());
                let _ = self.objects.tables.insert(key);
            }
            _ => {
                let _ = self.objects.tables.insert(key);
            }
        }
    }

    /// A dump locks every table and reads every sequence; of views it takes the definition only.
    fn access(&mut self, schema: &str, name: &str, kind: &str, denied: &str) {
        if denied == "schema" {
            self.unreadable_schemas.insert(schema.to_owned());
        }
        if !denied.is_empty() && matches!(kind, "r" | "p" | "S" | "m") {
            self.unreadable.push(format!("{}.{}", quoted(schema), quoted(name)));
            self.unreadable_schemas.insert(schema.to_owned());
        }
    }

    /// What is in it, in words; `None` when it holds nothing.
    pub(super) fn content(&self) -> Option<String> {
        let counts = self.objects.counts().into_iter().chain([("schemas".to_owned(), self.schemas)]);
        let parts: Vec<String> = counts.filter(|(_, count)| *count > 0).map(|(kind, count)| format!("{count} {kind}")).collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }

    /// # Errors
    /// [`DatabaseError::Privileges`] when a dump by this user would fail or leave something out.
    pub(super) fn check_privileges(&self) -> Result<(), DatabaseError> {
        let user = quoted(&self.user);
        let (mut lacking, mut statements) = (Vec::new(), Vec::new());
        if !self.unreadable_schemas.is_empty() {
            lacking.push(some_of("tables and sequences", &self.unreadable));
            for schema in self.unreadable_schemas.iter().map(|schema| quoted(schema)) {
                statements.push(format!(
                    "GRANT USAGE ON SCHEMA {schema} TO {user}; GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {user}; GRANT SELECT ON ALL SEQUENCES IN SCHEMA {schema} TO {user};"
                ));
            }
        }
        if !self.hidden_rows.is_empty() {
            lacking.push(some_of("rows that row-level security hides in", &self.hidden_rows));
            statements.push(format!("ALTER ROLE {user} BYPASSRLS;"));
        }
        if !self.unreadable_objects.is_empty() {
            lacking.push(format!("{} large objects", self.unreadable_objects.len()));
            let listed: Vec<&str> = self.unreadable_objects.iter().take(LISTED).map(String::as_str).collect();
            statements.push(format!("GRANT SELECT ON LARGE OBJECT {} TO {user};", listed.join(", ")));
        }
        if statements.is_empty() {
            return Ok(());
        }
        Err(DatabaseError::Privileges { user, lacking: lacking.join("; "), grant: statements.join(" ") })
    }

    pub(super) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let mut say = |what: &str, tables: &[String]| {
            if !tables.is_empty() {
                warnings.push(some_of(what, tables));
            }
        };
        say("unlogged tables, which the server empties after a crash (their rows are in the dump):", &self.unlogged);
        say("foreign tables, whose rows lie elsewhere and are not in the dump:", &self.foreign);
        say("row-level security is on (the dump holds every row, whoever may see it):", &self.policed);
        if !self.reads_passwords {
            warnings.push(format!("{} may not read the roles' passwords: they are not in the dump of the roles", quoted(&self.user)));
        }
        warnings
    }
}

fn some_of(what: &str, names: &[String]) -> String {
    let listed: Vec<&str> = names.iter().take(10).map(String::as_str).collect();
    let more = names.len().saturating_sub(listed.len());
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{what} {}{more}", listed.join(", "))
}
