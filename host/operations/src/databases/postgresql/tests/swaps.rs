//! How a restored database takes its place, and what stays when it does not.

use super::*;

fn small(place: &Place) -> (Vec<u8>, DatabaseRecord) {
    place.sql("CREATE TABLE t(a integer PRIMARY KEY, b text); INSERT INTO t SELECT n, 'row ' || n FROM generate_series(1, 1000) n");
    let (sql, report) = dump(&*place.root(), &place.options()).unwrap();
    (sql, report.record)
}

#[test]
fn what_was_there_before_is_kept_under_another_name_and_the_database_keeps_its_own_settings() {
    let place = place("swapped");
    let (sql, record) = small(&place);
    place.admin("CREATE ROLE swap_owner; CREATE ROLE swap_guest; ALTER DATABASE swapped OWNER TO swap_owner; COMMENT ON DATABASE swapped IS 'it''s';
        REVOKE ALL ON DATABASE swapped FROM PUBLIC; GRANT CONNECT ON DATABASE swapped TO swap_guest WITH GRANT OPTION;
        ALTER DATABASE swapped SET search_path = \"$user\", public; ALTER DATABASE swapped SET work_mem = '7MB'; ALTER DATABASE swapped CONNECTION LIMIT 50;
        ALTER ROLE swap_guest IN DATABASE swapped SET statement_timeout = '9s'");
    place.sql("DELETE FROM t WHERE a > 10; CREATE TABLE newer(a integer)");
    let before = place.properties("swapped");
    let outcome = restore(&*place.root(), &sql, &record, &place.target(None, true)).unwrap();
    let kept = outcome.kept.clone().unwrap();
    assert!(kept.starts_with("swapped_before_20") && kept.ends_with('z'), "{kept}");
    assert_eq!(place.databases(), ["swapped".to_owned(), kept.clone()]);
    assert_eq!(place.server.sql(&kept, "SELECT count(*) FROM t, newer UNION ALL SELECT count(*) FROM t"), "0\n10\n");
    assert_eq!(place.sql("SELECT count(*), sum(a), max(b) FROM t"), "1000|500500|row 999\n");
    assert_eq!((place.properties("swapped"), outcome.problems, outcome.warnings), (before, Vec::new(), Vec::new()));
    // The planner knows the tables.
    assert_eq!(
        place.sql("SELECT reltuples FROM pg_class WHERE relname = 't'; SELECT count(*) > 0 FROM pg_stats WHERE tablename = 't'"),
        "1000\nt\n"
    );
}

#[test]
fn a_database_that_is_gone_gets_its_settings_from_the_record() {
    let place = place("remade");
    place.admin("CREATE ROLE remade_owner; ALTER DATABASE remade OWNER TO remade_owner; COMMENT ON DATABASE remade IS 'x'; REVOKE CONNECT ON DATABASE remade FROM PUBLIC;
        ALTER DATABASE remade SET search_path = app, public; ALTER DATABASE remade SET timezone = 'Europe/Amsterdam'");
    let (sql, record) = small(&place);
    let before = place.properties("remade");
    place.admin("DROP DATABASE remade");
    let outcome = restore(&*place.root(), &sql, &record, &place.target(None, false)).unwrap();
    assert_eq!((place.properties("remade"), outcome.kept, outcome.warnings), (before, None, Vec::new()));
}

#[test]
fn a_target_that_is_not_empty_is_refused_untouched_and_another_name_is_taken() {
    let place = place("occupied");
    let (sql, record) = small(&place);
    place.sql("DELETE FROM t WHERE a > 1");
    let error = restore(&*place.root(), &sql, &record, &place.target(None, false)).unwrap_err();
    assert!(matches!(&error, DatabaseError::NotEmpty { content, .. } if content == "1 tables"), "{error}");
    assert_eq!((place.sql("SELECT count(*) FROM t").as_str(), place.databases().len()), ("1\n", 1));
    let outcome = restore(&*place.root(), &sql, &record, &place.target(Some("occupied_copy"), false)).unwrap();
    assert_eq!((outcome.database.as_str(), outcome.rows_verified), ("occupied_copy", 1000));
    assert_eq!(place.server.sql("occupied_copy", "SELECT count(*) FROM t"), "1000\n");
    assert_eq!(place.sql("SELECT count(*) FROM t"), "1\n");
    // Whatever is not a table is something too.
    for (n, object) in
        ["SELECT lo_create(1)", "CREATE SCHEMA s", "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "CREATE EXTENSION citext"]
            .iter()
            .enumerate()
    {
        let name = format!("occupied_{n}");
        place.admin(&format!("CREATE DATABASE {name} TEMPLATE template0"));
        place.server.sql(&name, object);
        let error = restore(&*place.root(), &sql, &record, &place.target(Some(&name), false)).unwrap_err();
        assert!(matches!(error, DatabaseError::NotEmpty { .. }), "{object}: {error}");
    }
    // An empty one is filled, and nothing is left of it.
    place.admin("CREATE DATABASE occupied_empty TEMPLATE template0");
    let outcome = restore(&*place.root(), &sql, &record, &place.target(Some("occupied_empty"), false)).unwrap();
    assert_eq!((outcome.kept, place.databases().iter().filter(|name| name.contains("empty")).count()), (None, 1));
}

#[test]
fn a_dump_that_does_not_load_leaves_the_target_as_it_was_and_nothing_else() {
    let place = place("broken");
    let (sql, record) = small(&place);
    place.sql("DELETE FROM t WHERE a > 1");
    let before = place.fingerprint("broken");
    let text = String::from_utf8(sql.clone()).unwrap();
    let half = sql.len() / 2;
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("cut short", sql[..half].to_vec()),
        ("cut before its last line", text[..text.rfind("--\n-- PostgreSQL database dump complete").unwrap()].as_bytes().to_vec()),
        ("a row that is none", text.replace("\n500\trow 500\n", "\n500\n").into_bytes()),
        ("a row less", text.replace("\n500\trow 500\n", "\n").into_bytes()),
        ("a table less", text.replace("CREATE TABLE public.t (", "CREATE TABLE public.u (").into_bytes()),
        ("nothing", Vec::new()),
    ];
    for (what, bytes) in cases {
        let error = restore(&*place.root(), &bytes, &record, &place.target(None, true)).unwrap_err();
        assert!(matches!(error, DatabaseError::BadDump { .. } | DatabaseError::Truncated { .. }), "{what}: {error}");
        assert!(place.fingerprint("broken") == before && place.databases() == ["broken"], "{what}: {:?}", place.databases());
    }
    let error = restore(&*place.root(), &sql, &record, &RestoreTarget { replace: true, ..place.target(Some("broken"), true) });
    assert!(error.is_ok());
}

#[test]
fn a_flipped_bit_in_a_row_is_found() {
    let place = place("flipped");
    let (sql, record) = small(&place);
    place.admin("DROP DATABASE flipped");
    let text = String::from_utf8(sql).unwrap().replace("\n500\trow 500\n", "\n500\trow 50p\n");
    let outcome = restore(&*place.root(), text.as_bytes(), &record, &place.target(None, false)).unwrap();
    assert_eq!(outcome.problems, ["rows differ from the record in: t"]);
}

#[test]
fn a_swap_that_fails_leaves_the_target_in_use() {
    let place = place("unswappable");
    let (sql, record) = small(&place);
    place.sql("DELETE FROM t WHERE a > 1");
    // What a rename cannot get past, and nobody can terminate.
    place.sql("BEGIN; INSERT INTO t VALUES (0, 'x'); PREPARE TRANSACTION 'unswappable'");
    let error = restore(&*place.root(), &sql, &record, &place.target(None, true)).unwrap_err();
    assert!(matches!(error, DatabaseError::NotSwapped { .. }), "{error}");
    place.sql("ROLLBACK PREPARED 'unswappable'");
    assert_eq!((place.sql("SELECT count(*) FROM t").as_str(), place.databases().len()), ("1\n", 1));
}

#[test]
fn sessions_of_the_old_database_are_ended() {
    let place = place("busy");
    let (sql, record) = small(&place);
    let mut session = place.server.client("psql");
    session.args(["-X", "-q", "-A", "-t", "-d", "busy", "-f", "-"]).stdin(std::process::Stdio::piped());
    let mut session = session.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null()).spawn().unwrap();
    let mut stdin = session.stdin.take().unwrap();
    stdin.write_all(b"SELECT 'here';\n").unwrap();
    let mut answer = [0; 5];
    io::Read::read_exact(session.stdout.as_mut().unwrap(), &mut answer).unwrap();
    let outcome = restore(&*place.root(), &sql, &record, &place.target(None, true)).unwrap();
    let _ = stdin.write_all(b"DELETE FROM t;\n");
    drop(stdin);
    session.wait().unwrap();
    assert_eq!((place.sql("SELECT count(*) FROM t").as_str(), outcome.kept.is_some()), ("1000\n", true));
    assert_eq!(place.server.sql(&outcome.kept.unwrap(), "SELECT count(*) FROM t"), "1000\n");
}

#[test]
fn an_operator_who_stops_a_restore_finds_the_target_as_it_was() {
    let place = place("stopped");
    let (sql, record) = small(&place);
    let cancel = Cancel::default();
    let source = |out: &mut (dyn Write + Send)| {
        out.write_all(&sql[..2000])?;
        cancel.cancel();
        Ok(out.write_all(&sql[2000..])?)
    };
    let error = place.root().restore(&source, &record, &place.target(None, true), &cancel).unwrap_err();
    assert!(matches!(error, DatabaseError::Cancelled), "{error}");
    assert_eq!((place.databases().len(), place.sql("SELECT count(*) FROM t").as_str()), (1, "1000\n"));
}

#[test]
fn a_hostile_dump_touches_nothing_outside() {
    let place = place("hostile");
    let (sql, record) = small(&place);
    let mark = place.folder.path().join("mark");
    std::fs::set_permissions(place.folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let text = String::from_utf8(sql).unwrap();
    let shown = mark.display();
    for evil in [
        format!("\\! touch {shown}\n"),
        format!("SELECT 1 \\g |touch {shown}\n"),
        format!("COPY public.t TO PROGRAM 'touch {shown}';\n"),
        format!("COPY public.t TO '{shown}';\n"),
        format!("SELECT pg_catalog.lo_export(1, '{shown}');\n"),
        format!("DO $$ BEGIN EXECUTE 'COPY public.t TO ''{shown}'''; END $$;\n"),
        "\\connect postgres\nCREATE TABLE hostile_was_here(a integer);\n".to_owned(),
        "CREATE ROLE hostile_role SUPERUSER;\n".to_owned(),
        "ALTER SYSTEM SET work_mem = '1MB';\n".to_owned(),
        format!("\\unrestrict HavunBackup\n\\! touch {shown}\n"),
        "USE mysql;\n".to_owned(),
    ] {
        for at in ["SET row_security = off;\n", "ALTER TABLE public.t OWNER TO postgres;\n"] {
            let text = text.replace(at, &format!("{at}{evil}"));
            let error = restore(&*place.root(), text.as_bytes(), &record, &place.target(None, true)).unwrap_err();
            assert!(matches!(&error, DatabaseError::BadDump { what, .. } if what.contains("refused")), "{evil}: {error}");
            assert!(!mark.exists(), "{evil}");
        }
    }
    assert_eq!(place.databases(), ["hostile"]);
    assert_eq!(
        place.admin(
            "SELECT count(*) FROM pg_class WHERE relname = 'hostile_was_here'; SELECT count(*) FROM pg_roles WHERE rolname = 'hostile_role'"
        ),
        "0\n0\n"
    );
}
