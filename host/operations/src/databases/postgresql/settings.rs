//! What belongs to a database itself and to nothing in it, so that `pg_dump` leaves it out: encoding and locale, owner,
//! grants, `ALTER DATABASE … SET`, comment, limit of connections. Kept in the record of a dump, and carried over when
//! a restored database takes the place of another.

use super::{
    client::Clients,
    names::{literal, quoted},
    scan::identifier,
};
use crate::databases::DatabaseError;
use havun_model::Cancel;
use std::collections::{BTreeMap, BTreeSet};

/// Settings whose value is a list of quoted names, which is stored as it would be written.
const LISTS: [&str; 6] = [
    "search_path",
    "temp_tablespaces",
    "local_preload_libraries",
    "session_preload_libraries",
    "shared_preload_libraries",
    "unix_socket_directories",
];

/// Of one database.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Settings {
    pub encoding: String,
    pub collate: String,
    pub ctype: String,
    /// `c` (libc), `i` (ICU) or `b` (built in).
    pub provider: String,
    /// Of the provider, where it is not libc.
    pub locale: String,
    pub owner: String,
    pub allows_connections: bool,
    comment: String,
    connection_limit: String,
    /// `None` where nobody changed the default.
    grants: Option<Vec<Grant>>,
    configured: Vec<Configured>,
    /// What held while the rows were written, of [`SESSION`].
    pub session: Vec<(String, String)>,
}

/// Settings that decide how a value is written and read, or what a materialized view holds. `pg_dump` sets some of them for
/// itself, and leaves none of them in the dump.
pub(super) const SESSION: [&str; 6] = ["TimeZone", "DateStyle", "IntervalStyle", "extra_float_digits", "lc_monetary", "bytea_output"];

/// Grantee (empty for everybody), privilege, and whether it may be passed on.
type Grant = (String, String, bool);
/// Role (empty for all) and `name=value`.
type Configured = (String, String);

impl Settings {
    /// Of `database`, asked in `place`; `None` when there is none of this name.
    pub(super) fn read(clients: &Clients, place: &str, database: &str, cancel: &Cancel) -> Result<Option<Self>, DatabaseError> {
        let name = literal(database);
        let sql = format!(
            "SELECT 'database', pg_encoding_to_char(d.encoding), d.datcollate, d.datctype, coalesce(to_jsonb(d)->>'datlocprovider', 'c'),
  coalesce(to_jsonb(d)->>'datlocale', to_jsonb(d)->>'daticulocale', ''), pg_get_userbyid(d.datdba),
  coalesce(shobj_description(d.oid, 'pg_database'), ''), d.datconnlimit, d.datallowconn, d.datacl IS NOT NULL
  FROM pg_database d WHERE d.datname = {name};
SELECT 'grant', CASE WHEN a.grantee = 0 THEN '' ELSE pg_get_userbyid(a.grantee) END, a.privilege_type, a.is_grantable
  FROM pg_database d, aclexplode(d.datacl) a WHERE d.datname = {name} ORDER BY 2, 3;
SELECT 'set', coalesce(r.rolname, ''), c FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
  LEFT JOIN pg_roles r ON r.oid = s.setrole, unnest(s.setconfig) WITH ORDINALITY u(c, n) WHERE d.datname = {name} ORDER BY 2, u.n;"
        );
        let mut found = None;
        for row in clients.query(place, &sql, cancel)? {
            let row: Vec<&str> = row.iter().map(String::as_str).collect();
            match (row.as_slice(), &mut found) {
                (["database", encoding, collate, ctype, provider, locale, owner, comment, limit, connections, granted], _) => {
                    let text = |text: &&str| (*text).to_owned();
                    found = Some(Self {
                        encoding: text(encoding),
                        collate: text(collate),
                        ctype: text(ctype),
                        provider: text(provider),
                        locale: text(locale),
                        owner: text(owner),
                        comment: text(comment),
                        connection_limit: text(limit),
                        allows_connections: *connections == "t",
                        grants: (*granted == "t").then(Vec::new),
                        configured: Vec::new(),
                        session: Vec::new(),
                    });
                }
                (["grant", grantee, privilege, option], Some(Self { grants: Some(grants), .. })) => {
                    grants.push(((*grantee).to_owned(), (*privilege).to_owned(), *option == "t"));
                }
                (["set", role, assignment], Some(settings)) => settings.configured.push(((*role).to_owned(), (*assignment).to_owned())),
                _ => {}
            }
        }
        Ok(found)
    }

    /// For a record; what is as it is by default is left out.
    pub(super) fn to_record(&self, roles: &BTreeSet<String>) -> BTreeMap<String, String> {
        let json = |value: Result<String, serde_json::Error>| value.unwrap_or_default();
        let limit = if self.connection_limit == "-1" { String::new() } else { self.connection_limit.clone() };
        let grants = self.grants.as_ref().map(|grants| json(serde_json::to_string(grants))).unwrap_or_default();
        let set = if self.configured.is_empty() { String::new() } else { json(serde_json::to_string(&self.configured)) };
        let all = [
            ("ctype", self.ctype.clone()),
            ("locale_provider", self.provider.clone()),
            ("locale", self.locale.clone()),
            ("owner", self.owner.clone()),
            ("comment", self.comment.clone()),
            ("connection_limit", limit),
            ("grants", grants),
            ("set", set),
            ("session", json(serde_json::to_string(&self.session))),
            ("roles", json(serde_json::to_string(roles))),
        ];
        all.into_iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// As [`Self::to_record`] wrote it.
    pub(super) fn from_record(record: &havun_model::DatabaseRecord) -> Self {
        let text = |name: &str| record.settings.get(name).cloned().unwrap_or_default();
        Self {
            encoding: record.charset.clone(),
            collate: record.collation.clone(),
            ctype: text("ctype"),
            provider: text("locale_provider"),
            locale: text("locale"),
            owner: text("owner"),
            allows_connections: true,
            comment: text("comment"),
            connection_limit: text("connection_limit"),
            grants: record.settings.get("grants").and_then(|grants| serde_json::from_str(grants).ok()),
            configured: serde_json::from_str(&text("set")).unwrap_or_default(),
            session: serde_json::from_str(&text("session")).unwrap_or_default(),
        }
    }

    /// What lets sessions in `database` read the rows as they were written.
    pub(super) fn session_statements(&self, database: &str) -> Vec<String> {
        let known = self.session.iter().filter(|(name, _)| SESSION.contains(&name.as_str()));
        known.map(|(name, value)| format!("ALTER DATABASE {} SET {} TO {};", quoted(database), quoted(name), literal(value))).collect()
    }

    /// Roles that a record names: owners and grantees within the database, and of the database.
    pub(super) fn recorded_roles(record: &havun_model::DatabaseRecord) -> BTreeSet<String> {
        let settings = Self::from_record(record);
        let listed = record.settings.get("roles").and_then(|roles| serde_json::from_str::<BTreeSet<String>>(roles).ok());
        let grantees = settings.grants.iter().flatten().map(|grant| grant.0.clone());
        let configured = settings.configured.iter().map(|(role, _)| role.clone());
        let all = listed.into_iter().flatten().chain(grantees).chain(configured).chain([settings.owner.clone()]);
        all.filter(|role| !role.is_empty()).collect()
    }

    /// The options of `CREATE DATABASE`.
    pub(super) fn create_options(&self, server: u32, with_locale: bool) -> String {
        let mut options = "TEMPLATE template0".to_owned();
        let mut option = |name: &str, value: &str| {
            if !value.is_empty() {
                options.push_str(&format!(" {name} {}", literal(value)));
            }
        };
        option("ENCODING", &self.encoding);
        if !with_locale {
            return options;
        }
        option("LC_COLLATE", &self.collate);
        option("LC_CTYPE", &self.ctype);
        let name = if server >= 17 { "BUILTIN_LOCALE" } else { "ICU_LOCALE" };
        match self.provider.as_str() {
            "i" => {
                option("ICU_LOCALE", &self.locale);
                options.push_str(" LOCALE_PROVIDER icu");
            }
            "b" => {
                option(name, &self.locale);
                options.push_str(" LOCALE_PROVIDER builtin");
            }
            _ if server >= 15 => options.push_str(" LOCALE_PROVIDER libc"),
            _ => {}
        }
        options
    }

    /// What gives `database` these settings, each statement by itself.
    pub(super) fn statements(&self, database: &str, roles: &BTreeSet<String>) -> Vec<String> {
        let name = quoted(database);
        let known = |role: &str| role.is_empty() || roles.contains(role);
        let mut statements = Vec::new();
        if let Some(grants) = &self.grants {
            statements.push(format!("REVOKE ALL ON DATABASE {name} FROM PUBLIC;"));
            for (grantee, privilege, option) in grants.iter().filter(|grant| known(&grant.0)) {
                let to = if grantee.is_empty() { "PUBLIC".to_owned() } else { quoted(grantee) };
                let word = privilege.bytes().all(|byte| byte.is_ascii_uppercase());
                let option = if *option { " WITH GRANT OPTION" } else { "" };
                if word {
                    statements.push(format!("GRANT {privilege} ON DATABASE {name} TO {to}{option};"));
                }
            }
        }
        if !self.comment.is_empty() {
            statements.push(format!("COMMENT ON DATABASE {name} IS {};", literal(&self.comment)));
        }
        if let Ok(limit @ 0..) = self.connection_limit.parse::<i64>() {
            statements.push(format!("ALTER DATABASE {name} CONNECTION LIMIT {limit};"));
        }
        for (role, assignment) in self.configured.iter().filter(|(role, _)| known(role)) {
            let whom = if role.is_empty() { format!("DATABASE {name}") } else { format!("ROLE {} IN DATABASE {name}", quoted(role)) };
            if let Some((setting, value)) = assignment.split_once('=') {
                statements.push(format!("ALTER {whom} SET {} TO {};", setting_name(setting), setting_value(setting, value)));
            }
        }
        // Last: whoever gives it away may set nothing any more.
        if !self.owner.is_empty() && known(&self.owner) {
            statements.push(format!("ALTER DATABASE {name} OWNER TO {};", quoted(&self.owner)));
        }
        statements
    }
}

/// `plpgsql.check_asserts`: each part an identifier.
fn setting_name(name: &str) -> String {
    name.split('.').map(quoted).collect::<Vec<_>>().join(".")
}

fn setting_value(name: &str, value: &str) -> String {
    if !LISTS.contains(&name) {
        return literal(value);
    }
    let ended = format!("{value},");
    let (mut parts, mut rest) = (Vec::new(), ended.as_bytes());
    while let Some((part, after)) = identifier(rest.trim_ascii_start()) {
        parts.push(literal(&part));
        rest = after.trim_ascii_start().strip_prefix(b",").unwrap_or_default();
    }
    if parts.is_empty() { "''".to_owned() } else { parts.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_taken_apart_and_other_values_quoted() {
        assert_eq!(setting_value("search_path", "\"$user\", public, \"a,b\"\"c\""), "'$user', 'public', 'a,b\"c'");
        assert_eq!(setting_value("search_path", "\"\""), "''");
        assert_eq!(setting_value("work_mem", "8MB'"), "'8MB'''");
    }

    #[test]
    fn a_record_gives_back_what_it_was_given() {
        let settings = Settings {
            encoding: "UTF8".to_owned(),
            collate: "C".to_owned(),
            owner: "app".to_owned(),
            allows_connections: true,
            comment: "it's".to_owned(),
            connection_limit: "7".to_owned(),
            grants: Some(vec![(String::new(), "CONNECT".to_owned(), false), ("a \"b".to_owned(), "CREATE".to_owned(), true)]),
            configured: vec![("r".to_owned(), "work_mem=8MB".to_owned())],
            session: vec![("TimeZone".to_owned(), "UTC".to_owned())],
            ..Settings::default()
        };
        let record = havun_model::DatabaseRecord {
            charset: "UTF8".to_owned(),
            collation: "C".to_owned(),
            settings: settings.to_record(&BTreeSet::from(["x".to_owned()])),
            ..havun_model::DatabaseRecord::default()
        };
        assert_eq!(Settings::from_record(&record), settings);
        assert_eq!(Settings::recorded_roles(&record), ["a \"b", "app", "r", "x"].map(str::to_owned).into());
        let statements = settings.statements("s", &BTreeSet::from(["a \"b".to_owned()]));
        assert!(statements.contains(&"GRANT CREATE ON DATABASE \"s\" TO \"a \"\"b\" WITH GRANT OPTION;".to_owned()), "{statements:?}");
        assert!(!statements.iter().any(|statement| statement.contains("OWNER") || statement.contains("work_mem")), "{statements:?}");
    }
}
