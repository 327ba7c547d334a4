//! Users who may not do everything, and servers that lack something.

use super::*;

const OWNED: &str =
    "CREATE TABLE t(a integer PRIMARY KEY); INSERT INTO t VALUES (1), (2); CREATE SCHEMA s; CREATE SEQUENCE s.q; SELECT nextval('s.q');
    CREATE FUNCTION f() RETURNS integer LANGUAGE sql AS 'SELECT 1'; SELECT lo_from_bytea(5, '\\x01');";

#[test]
fn roles_that_are_missing_become_placeholders_without_login() {
    let place = place("orphans");
    place.admin("CREATE ROLE \"or'phan 1\" LOGIN PASSWORD 'x'; CREATE ROLE orphan_2 LOGIN");
    place.sql(&format!(
        "{OWNED} ALTER TABLE t OWNER TO \"or'phan 1\"; GRANT SELECT ON t TO orphan_2; ALTER TABLE t ENABLE ROW LEVEL SECURITY;
        CREATE POLICY p ON t TO orphan_2 USING (true)"
    ));
    let before = place.fingerprint("orphans");
    let (sql, report) = dump(&*place.root(), &place.options()).unwrap();
    place.admin("DROP DATABASE orphans; DROP ROLE \"or'phan 1\", orphan_2");
    let broken = String::from_utf8(sql.clone()).unwrap().replace("\n2\n", "\nx\n");
    assert!(restore(&*place.root(), broken.as_bytes(), &report.record, &place.target(None, false)).is_err());
    assert_eq!(place.admin("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'or%phan%'"), "0\n");
    let outcome = restore(&*place.root(), &sql, &report.record, &place.target(None, false)).unwrap();
    assert!(outcome.warnings.iter().any(|warning| warning.contains("or'phan 1, orphan_2")), "{:?}", outcome.warnings);
    assert_eq!(
        place.admin("SELECT rolname, rolcanlogin FROM pg_roles WHERE rolname LIKE 'or%phan%' ORDER BY 1"),
        "or'phan 1|f\norphan_2|f\n"
    );
    assert_eq!((outcome.problems.len(), place.fingerprint("orphans") == before), (0, true));
}

#[test]
fn a_user_who_is_no_superuser_restores_what_becomes_its_own() {
    let place = place("plain");
    place.admin("CREATE ROLE plain_owner; CREATE ROLE plain_user LOGIN CREATEDB");
    place.sql(&format!("{OWNED} ALTER TABLE t OWNER TO plain_owner; GRANT SELECT ON t TO plain_owner; GRANT SELECT ON t TO plain_user"));
    let (sql, report) = dump(&*place.root(), &place.options()).unwrap();
    let user = place.connect(&[("user", "plain_user")]);
    let outcome = restore(&*user, &sql, &report.record, &place.target(Some("plain_copy"), false)).unwrap();
    assert_eq!((outcome.problems.len(), outcome.rows_verified), (0, 2));
    let owners = outcome.warnings.iter().find(|warning| warning.contains("owned by \"plain_user\" instead of")).unwrap();
    assert!(owners.contains("plain_owner") && owners.contains("postgres"), "{owners}");
    assert_eq!(
        place
            .server
            .sql("plain_copy", "SELECT tableowner FROM pg_tables WHERE tablename = 't'; SELECT last_value FROM s.q; SELECT lo_get(5)"),
        "plain_user\n1\n\\x01\n"
    );
    // Its own database it may replace, another's not.
    let outcome = restore(&*user, &sql, &report.record, &place.target(Some("plain_copy"), true)).unwrap();
    assert!(outcome.kept.is_some());
    let before = place.fingerprint("plain");
    let error = restore(&*user, &sql, &report.record, &place.target(None, true)).unwrap_err();
    assert!(
        matches!(&error, DatabaseError::RestoreRights { grant, .. } if grant == "ALTER DATABASE \"plain\" OWNER TO \"plain_user\";"),
        "{error}"
    );
    assert!(place.fingerprint("plain") == before);
}

#[test]
fn a_user_who_may_make_no_databases_fills_an_empty_one_in_one_transaction() {
    let place = place("poor");
    place.admin("CREATE ROLE poor_user LOGIN; CREATE DATABASE poor_home TEMPLATE template0 OWNER poor_user");
    place.sql(OWNED);
    let (sql, report) = dump(&*place.root(), &place.options()).unwrap();
    let user = place.connect(&[("user", "poor_user")]);
    let error = restore(&*user, &sql, &report.record, &place.target(Some("poor_new"), false)).unwrap_err();
    assert!(matches!(&error, DatabaseError::RestoreRights { grant, .. } if grant == "ALTER ROLE \"poor_user\" CREATEDB;"), "{error}");
    let broken = String::from_utf8(sql.clone()).unwrap().replace("\n2\n", "\nx\n");
    assert!(restore(&*user, broken.as_bytes(), &report.record, &place.target(Some("poor_home"), false)).is_err());
    assert_eq!(
        place.server.sql("poor_home", "SELECT count(*) FROM pg_class WHERE relname = 't'; SELECT count(*) FROM pg_largeobject_metadata"),
        "0\n0\n"
    );
    let outcome = restore(&*user, &sql, &report.record, &place.target(Some("poor_home"), false)).unwrap();
    assert_eq!((outcome.rows_verified, outcome.problems.len()), (2, 0));
    assert_eq!(place.server.sql("poor_home", "SELECT count(*) FROM t; SELECT lo_get(5)"), "2\n\\x01\n");
    let error = restore(&*user, &sql, &report.record, &place.target(Some("poor_home"), true)).unwrap_err();
    assert!(matches!(error, DatabaseError::RestoreRights { .. }), "{error}");
}

#[test]
fn a_tablespace_and_a_locale_that_the_server_lacks_are_no_obstacle() {
    let place = place("elsewhere");
    place.sql("CREATE TABLE t(a integer); INSERT INTO t VALUES (1)");
    let (sql, mut report) = dump(&*place.root(), &place.options()).unwrap();
    let sql = String::from_utf8(sql)
        .unwrap()
        .replace("SET default_tablespace = '';", "SET transaction_timeout = 0;\nSET default_tablespace = fast_disk;");
    report.record.collation = "xx_YY.UTF-8".to_owned();
    report.record.settings.insert("ctype".to_owned(), "xx_YY.UTF-8".to_owned());
    place.admin("DROP DATABASE elsewhere");
    let outcome = restore(&*place.root(), sql.as_bytes(), &report.record, &place.target(None, false)).unwrap();
    assert_eq!((place.sql("SELECT count(*) FROM t").as_str(), outcome.problems.len()), ("1\n", 0));
    for about in ["fast_disk", "xx_YY.UTF-8"] {
        assert!(outcome.warnings.iter().any(|warning| warning.contains(about)), "{about}: {:?}", outcome.warnings);
    }
}

#[test]
fn what_a_killed_restore_left_is_named() {
    let place = place("remains");
    place.sql("CREATE TABLE t(a integer)");
    let (sql, report) = dump(&*place.root(), &place.options()).unwrap();
    place.admin("CREATE DATABASE remains_havun_restore_1");
    let outcome = restore(&*place.root(), &sql, &report.record, &place.target(None, true)).unwrap();
    assert!(outcome.warnings.iter().any(|warning| warning.contains("DROP DATABASE \"remains_havun_restore_1\"")), "{:?}", outcome.warnings);
    assert!(place.databases().contains(&"remains_havun_restore_1".to_owned()));
}
