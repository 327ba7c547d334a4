use super::*;
use std::os::unix::fs::symlink;

fn literal(name: &str, value: &str) -> Parameter {
    Parameter { name: name.to_owned(), source: ParameterSource::Literal { value: value.to_owned() } }
}

fn variable(name: &str, file: &str, variable: &str) -> Parameter {
    let source = ParameterSource::Variable { file: file.to_owned(), variable: variable.to_owned(), syntax: "phpdotenv".to_owned() };
    Parameter { name: name.to_owned(), source }
}

fn laravel(engine: &str) -> Connection {
    let parameters = [
        ("url", "DB_URL"),
        ("host", "DB_HOST"),
        ("port", "DB_PORT"),
        ("socket", "DB_SOCKET"),
        ("user", "DB_USERNAME"),
        ("password", "DB_PASSWORD"),
        ("database", "DB_DATABASE"),
    ];
    let parameters = parameters.map(|(name, of)| variable(name, ".env", of)).to_vec();
    Connection { name: "main".to_owned(), engine: engine.to_owned(), parameters }
}

fn root(env: &str) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join(".env"), env).unwrap();
    root
}

fn resolve(connection: &Connection, overrides: &[(&'static str, &str)], root: &Path) -> Result<ResolvedConnection, DatabaseError> {
    let overrides = overrides.iter().map(|(name, value)| (*name, Zeroizing::new((*value).to_owned()))).collect();
    ResolvedConnection::resolve(connection, &overrides, root)
}

#[test]
fn laravels_variables_are_read_by_laravels_rules() {
    let root =
        root("DB_HOST=127.0.0.1\nDB_PORT=3307\nDB_USERNAME=app\nDB_PASSWORD='# \" \\ : $ é'\nDB_DATABASE=shop\nDB_SOCKET=null\nDB_URL=\n");
    let resolved = resolve(&laravel("mysql"), &[], root.path()).unwrap();
    assert_eq!(resolved.get("password"), Some("# \" \\ : $ é"));
    assert_eq!((resolved.get("database"), resolved.port().unwrap(), resolved.get("socket")), (Some("shop"), Some(3307), None));
    assert_eq!(resolved.engine(), "mysql");
}

#[test]
fn a_url_beats_the_parts_and_the_operator_beats_both() {
    let root =
        root("DB_URL=\"mariadb://u%40x:p%23w@db.internal/real?unix_socket=/run/s\"\nDB_HOST=old\nDB_DATABASE=old\nDB_PASSWORD=old\n");
    let resolved = resolve(&laravel("mysql"), &[], root.path()).unwrap();
    let values = ["user", "password", "host", "database", "socket"].map(|name| resolved.get(name).unwrap());
    assert_eq!((values, resolved.engine()), (["u@x", "p#w", "db.internal", "real", "/run/s"], "mariadb"));

    let resolved = resolve(&laravel("mysql"), &[("user", "backup"), ("password", "secret"), ("host", "replica")], root.path()).unwrap();
    let values = ["user", "password", "host", "database"].map(|name| resolved.get(name).unwrap());
    assert_eq!((values, resolved.get("socket")), (["backup", "secret", "replica", "real"], None));
}

#[test]
fn a_record_keeps_no_secret() {
    let root = root("DB_DATABASE=shop\nDB_PASSWORD=secret\n");
    let mut connection = laravel("mysql");
    connection.parameters.push(literal("charset", "utf8mb4"));
    let resolved = resolve(&connection, &[("password", "other secret")], root.path()).unwrap();
    let recorded = serde_json::to_string(&resolved.recorded()).unwrap();
    assert!(!recorded.contains("secret") && recorded.contains("DB_PASSWORD") && recorded.contains("utf8mb4"), "{recorded}");
    let with_url = Connection { parameters: vec![literal("url", "sqlite:///a.db"), literal("password", "secret")], ..connection };
    assert_eq!(resolve(&with_url, &[], root.path()).unwrap().recorded().parameters, []);
}

#[test]
fn a_strategy_cannot_choose_a_servers_database_or_a_file_elsewhere() {
    let root = root("");
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("x.sqlite"), "").unwrap();
    symlink(outside.path().join("x.sqlite"), root.path().join("link.sqlite")).unwrap();
    symlink(outside.path().join("missing"), root.path().join("dangling.sqlite")).unwrap();
    let plan = |engine: &str, parameters: Vec<Parameter>| Connection { name: "main".to_owned(), engine: engine.to_owned(), parameters };
    for connection in [
        plan("mysql", vec![literal("database", "other_project"), literal("socket", "/run/mysqld/mysqld.sock")]),
        plan("", vec![literal("url", "mysql://root@localhost/mysql")]),
        plan("sqlite", vec![literal("path", "/var/lib/other/app.sqlite")]),
        plan("sqlite", vec![literal("path", "../other.sqlite")]),
        plan("sqlite", vec![literal("path", "link.sqlite")]),
        plan("sqlite", vec![literal("path", "dangling.sqlite")]),
    ] {
        let error = resolve(&connection, &[], root.path()).err().unwrap();
        assert!(matches!(error, DatabaseError::NotGranted { .. }), "{error}");
    }
    let connection = plan("mysql", vec![literal("database", "other_project")]);
    assert!(resolve(&connection, &[("database", "other_project")], root.path()).is_ok(), "the operator may");
    assert!(resolve(&plan("sqlite", vec![literal("path", "database/app.sqlite")]), &[], root.path()).is_ok());
}

#[test]
fn a_dotenv_file_elsewhere_or_that_is_no_file_is_refused_at_once() {
    let root = root("");
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("env"), "DB_DATABASE=x").unwrap();
    symlink(outside.path().join("env"), root.path().join("link")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, root.path().join("fifo"), rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    for file in ["link", "fifo", "missing", "../x", "/etc/passwd", "."] {
        let connection = Connection { parameters: vec![variable("database", file, "DB_DATABASE")], ..laravel("mysql") };
        let error = resolve(&connection, &[], root.path()).err().unwrap();
        assert!(matches!(error, DatabaseError::EnvFile { .. }), "{file}: {error}");
    }
}

#[test]
fn a_broken_dotenv_file_is_named_without_its_values() {
    let root = root("DB_PASSWORD=secret word\n");
    let error = resolve(&laravel("mysql"), &[], root.path()).err().unwrap();
    let text = format!("{error}: {}", std::error::Error::source(&error).unwrap());
    assert!(text.contains(".env") && text.contains("line 1") && !text.contains("secret"), "{text}");
}

#[test]
fn every_word_for_tls_of_the_configuration_is_understood() {
    let root = root("DB_DATABASE=shop\n");
    let words = ["disabled", "preferred", "required", "verify-ca", "verify-identity"];
    let modes = words.map(|word| resolve(&laravel("pgsql"), &[("tls", word)], root.path()).unwrap().tls().unwrap());
    assert_eq!(modes, [Tls::Off, Tls::Preferred, Tls::Required, Tls::Verified, Tls::Verified]);
    assert!(resolve(&laravel("pgsql"), &[("tls", "maybe")], root.path()).unwrap().tls().is_err());
}

#[test]
fn laravels_and_nodes_names_of_postgresql_are_its_engine() {
    let root = root("DB_DATABASE=shop\nDATABASE_URL=postgres://u:p%3A@db/app?sslmode=require\n");
    for name in ["pgsql", "postgres", "postgresql"] {
        assert_eq!(resolve(&laravel(name), &[], root.path()).unwrap().engine(), "postgresql");
    }
    let node = Connection { name: "main".to_owned(), engine: String::new(), parameters: vec![variable("url", ".env", "DATABASE_URL")] };
    let resolved = resolve(&node, &[], root.path()).unwrap();
    assert_eq!((resolved.engine(), resolved.get("password"), resolved.tls().unwrap()), ("postgresql", Some("p:"), Tls::Required));
}
