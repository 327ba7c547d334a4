//! One test for each trap of the recipe that dumps have.

use super::*;

const PASSWORD: &str = r#"# ' " \ : $ é %s \n;*"#;
const LARGE: &str = "CREATE TABLE a_large(id integer PRIMARY KEY, t text);
    INSERT INTO a_large SELECT n, repeat(md5(n::text), 20) FROM generate_series(1, 30000) n;
    CREATE TABLE z_last(a integer); INSERT INTO z_last VALUES (1), (2);";

#[test]
fn the_restrict_key_is_fixed_so_that_dumps_are_equal() {
    let place = place("restrict_key");
    place.sql("CREATE TABLE t(a integer)");
    let (sql, _) = dump(&*place.root(), &place.options()).unwrap();
    let text = String::from_utf8(sql).unwrap();
    assert!(text.contains("\n\\restrict HavunBackup\n") && text.contains("\n\\unrestrict HavunBackup\n"), "{text}");
}

#[test]
fn a_password_with_every_awkward_character_works_over_tcp_and_is_nowhere_to_be_seen() {
    let place = place("awkward");
    place.sql(LARGE);
    let quoted = super::super::names::literal(PASSWORD);
    place.admin(&format!("CREATE ROLE \"awk:ward\" LOGIN PASSWORD {quoted}; GRANT pg_read_all_data TO \"awk:ward\""));
    let port = place.server.port().to_string();
    let with = |password: &str| {
        place.connect(&[("socket", ""), ("host", "127.0.0.1"), ("port", &port), ("user", "awk:ward"), ("password", password)])
    };
    let engine = with(PASSWORD);
    let mut under_way = engine.begin_dump(&place.options(), &Cancel::default()).unwrap();
    let mut seen = 0;
    let look = || seen = children_that_show(PASSWORD.as_bytes());
    under_way.write(SQL, &mut Disturbed { bytes: Vec::new(), after: 1 << 20, disturb: Some(look) }).unwrap();
    assert_eq!(under_way.finish().record.rows["z_last"], 2);
    assert_eq!(seen, 0);
    let error = dump(&*with("wrong"), &place.options()).unwrap_err();
    assert!(matches!(error, DatabaseError::Connect { .. }) && !error.to_string().contains("wrong"), "{error}");
}

/// How many `pg_dump` of this process have `secret` in their arguments or environment; at least one must run.
fn children_that_show(secret: &[u8]) -> usize {
    let me = std::process::id().to_string();
    let (mut running, mut showing) = (0, 0);
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let read = |file: &str| std::fs::read(entry.path().join(file)).unwrap_or_default();
        let stat = String::from_utf8_lossy(&read("stat")).into_owned();
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)).unwrap_or_default();
        if parent == me && read("cmdline").windows(7).any(|part| part == b"pg_dump") {
            running += 1;
            let all = [read("cmdline"), read("environ")].concat();
            showing += usize::from(all.windows(secret.len()).any(|part| part == secret));
        }
    }
    assert!(running > 0);
    showing
}

#[test]
fn a_table_with_row_level_security_is_an_error_with_the_statement_that_helps() {
    let place = place("rls");
    place.sql(
        "CREATE TABLE secrets(owner name, a integer); INSERT INTO secrets VALUES ('x', 1), ('y', 2);
        ALTER TABLE secrets ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON secrets USING (owner = current_user);
        CREATE ROLE rls_reader LOGIN; GRANT SELECT ON secrets TO rls_reader",
    );
    let reader = place.connect(&[("user", "rls_reader")]);
    let Err(DatabaseError::Privileges { user, lacking, grant }) = dump(&*reader, &place.options()) else { panic!("not refused") };
    assert_eq!((user.as_str(), grant.as_str()), ("\"rls_reader\"", "ALTER ROLE \"rls_reader\" BYPASSRLS;"));
    assert!(lacking.contains("row-level security hides in secrets"), "{lacking}");
    place.admin(&grant);
    assert_eq!(dump(&*reader, &place.options()).unwrap().1.record.rows["secrets"], 2);
}

#[test]
fn a_user_who_could_leave_something_out_is_refused_with_the_grants_to_run() {
    let place = place("rights_missing");
    place.sql(
        "CREATE SCHEMA \"in\"; CREATE TABLE \"in\".a(id serial); CREATE TABLE b(a integer); CREATE SEQUENCE lone; SELECT lo_create(77);
        CREATE VIEW v AS SELECT * FROM b; CREATE ROLE limited LOGIN",
    );
    let limited = place.connect(&[("user", "limited")]);
    let Err(DatabaseError::Privileges { lacking, grant, .. }) = limited.preflight(&Cancel::default()).map(|_| ()) else {
        panic!("not refused")
    };
    for part in ["\"in\".\"a\"", "\"in\".\"a_id_seq\"", "\"public\".\"lone\"", "1 large objects"] {
        assert!(lacking.contains(part), "{part}: {lacking}");
    }
    place.sql(&grant);
    let (sql, report) = dump(&*limited, &place.options()).unwrap();
    assert!(sql == dump(&*place.root(), &place.options()).unwrap().0);
    assert!(report.record.warnings.iter().any(|warning| warning.contains("passwords")), "{:?}", report.record.warnings);
}

#[test]
fn the_roles_are_dumped_with_their_passwords_by_who_may_read_them_only() {
    let place = place("global_roles");
    place.admin("CREATE ROLE with_secret LOGIN PASSWORD 'x' VALID UNTIL '2030-01-01'; CREATE ROLE globals_reader LOGIN");
    let all = globals(&*place.root(), &place.options());
    assert!(all.contains("CREATE ROLE with_secret;") && all.contains("PASSWORD 'SCRAM-SHA-256$"), "{all}");
    let some = globals(&*place.connect(&[("user", "globals_reader")]), &place.options());
    assert!(some.contains("CREATE ROLE with_secret;") && !some.contains("SCRAM"), "{some}");
}

#[test]
fn rows_that_are_left_out_leave_their_table() {
    let place = place("left_out");
    place.sql("CREATE TABLE cache(k text); INSERT INTO cache VALUES ('very-secret-session'); CREATE TABLE \"cache.2\"(k text);
        INSERT INTO \"cache.2\" VALUES ('very-secret'); CREATE VIEW cached AS SELECT k FROM cache; CREATE TABLE users(a integer); INSERT INTO users VALUES (1);
        CREATE SCHEMA s; CREATE TABLE s.sessions(a text); INSERT INTO s.sessions VALUES ('very-secret')");
    let options = DumpOptions { exclude_rows: ["cac*", "sessions", "nothing"].map(str::to_owned).to_vec(), ..place.options() };
    let (sql, report) = dump(&*place.root(), &options).unwrap();
    assert!(!String::from_utf8_lossy(&sql).contains("very-secret"));
    let rows = ["cache", "\"cache.2\"", "s.sessions", "users"].map(|table| report.record.rows[table]);
    assert_eq!(rows, [0, 0, 0, 1]);
    place.admin("DROP DATABASE left_out");
    let outcome = restore(&*place.root(), &sql, &report.record, &place.target(None, false)).unwrap();
    assert_eq!((place.sql("SELECT count(*) FROM cached").as_str(), outcome.problems.len()), ("0\n", 0));
}

#[test]
fn a_lock_that_lasts_is_an_error_that_a_second_attempt_heals() {
    let place = place("locked");
    place.sql("CREATE TABLE t(a integer); INSERT INTO t VALUES (1)");
    let engine = place.root();
    let options = DumpOptions { lock_wait: Duration::from_millis(200), ..place.options() };
    let mut under_way = engine.begin_dump(&options, &Cancel::default()).unwrap();
    // A prepared transaction keeps its locks without anybody.
    place.sql("BEGIN; ALTER TABLE t ADD COLUMN b integer; PREPARE TRANSACTION 'locked'");
    let error = under_way.write(SQL, &mut Vec::new()).unwrap_err();
    assert!(error.is_retryable() && matches!(error, DatabaseError::Busy { .. }), "{error}");
    place.sql("COMMIT PREPARED 'locked'");
    let mut sql = Vec::new();
    under_way.write(SQL, &mut sql).unwrap();
    assert_eq!(under_way.finish().record.rows["t"], 1);
    assert!(String::from_utf8(sql).unwrap().contains("COPY public.t (a, b)"));
}

#[test]
fn a_dump_that_dies_half_way_is_no_dump() {
    let place = place("killed");
    place.sql(LARGE);
    let engine = place.root();
    let mut under_way = engine.begin_dump(&place.options(), &Cancel::default()).unwrap();
    let kill = || drop(place.admin("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'killed'"));
    let error = under_way.write(SQL, &mut Disturbed { bytes: Vec::new(), after: 1 << 20, disturb: Some(kill) }).unwrap_err();
    assert!(matches!(error, DatabaseError::Client { .. }) && !error.is_retryable(), "{error}");

    let mut full = [0; 4096];
    let error = under_way.write(SQL, &mut full.as_mut_slice()).unwrap_err();
    assert!(matches!(error, DatabaseError::Sink(_)), "{error}");

    let cancel = Cancel::default();
    let mut under_way = engine.begin_dump(&place.options(), &cancel).unwrap();
    let error = under_way.write(SQL, &mut Disturbed { bytes: Vec::new(), after: 1 << 20, disturb: Some(|| cancel.cancel()) }).unwrap_err();
    assert!(matches!(error, DatabaseError::Cancelled), "{error}");
}

#[test]
fn a_server_that_is_away_and_a_database_that_is_gone_are_told_apart() {
    let place = place("gone");
    let error = dump(&*place.connect(&[("database", "gone_too")]), &place.options()).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("there is no PostgreSQL database `gone_too` at {}:{}", place.server.socket().display(), place.server.port())
    );
    let error = dump(&*place.connect(&[("socket", ""), ("host", "127.0.0.1"), ("port", "1")]), &place.options()).unwrap_err();
    assert!(matches!(&error, DatabaseError::Connect { database, .. } if database.contains("127.0.0.1:1")), "{error}");
    let port = place.server.port().to_string();
    let tcp = [("socket", ""), ("host", "127.0.0.1"), ("port", port.as_str()), ("password", "x")];
    let error = dump(&*place.connect(&[&tcp[..], &[("tls", "required")]].concat()), &place.options()).unwrap_err();
    assert!(matches!(&error, DatabaseError::Connect { message, .. } if message.contains("SSL")), "{error}");
}

#[test]
fn a_database_whose_strings_take_backslashes_comes_back() {
    let place = place("backslashes");
    place.admin("ALTER DATABASE backslashes SET standard_conforming_strings = off");
    place.sql(
        r"CREATE TABLE t(a text DEFAULT 'x\\y'); INSERT INTO t VALUES ('a\\b'); CREATE VIEW v AS SELECT 'it\'s; \\! x'::text AS a;
        COMMENT ON TABLE t IS 'c:\\d\';'; SELECT lo_from_bytea(9, '\\x5c27');",
    );
    let before = place.fingerprint("backslashes");
    let (sql, report) = dump(&*place.root(), &place.options()).unwrap();
    assert!(String::from_utf8_lossy(&sql).contains("standard_conforming_strings = off"));
    place.admin("DROP DATABASE backslashes");
    let outcome = restore(&*place.root(), &sql, &report.record, &place.target(None, false)).unwrap();
    assert_eq!((outcome.problems.len(), place.fingerprint("backslashes") == before), (0, true));
}

#[test]
fn settings_of_the_database_or_the_user_do_not_change_how_rows_are_written() {
    let place = place("zones");
    place.admin("ALTER DATABASE zones SET timezone = 'Asia/Kolkata'; ALTER DATABASE zones SET bytea_output = escape; ALTER DATABASE zones SET datestyle = 'German';
        ALTER DATABASE zones SET intervalstyle = iso_8601; ALTER DATABASE zones SET search_path = nowhere; ALTER DATABASE zones SET client_encoding = latin1;
        ALTER DATABASE zones SET default_transaction_isolation = serializable; ALTER DATABASE zones SET extra_float_digits = -5; CREATE ROLE zones_user SUPERUSER LOGIN; ALTER ROLE zones_user SET timezone = 'America/New_York'");
    place.sql("CREATE TABLE public.t AS SELECT '2026-03-29 01:30+00'::timestamptz AS z, '\\x00ff'::bytea AS b, interval '1 day 2 hours' AS i, 0.1::float8 + 0.2 AS f, 'é€'::text AS e;
        CREATE MATERIALIZED VIEW public.days AS SELECT z::date AS day, z::text FROM public.t");
    let day = place.sql("SELECT day::text || z FROM public.days");
    let (sql, report) = dump(&*place.root(), &place.options()).unwrap();
    assert!(sql == dump(&*place.connect(&[("user", "zones_user")]), &place.options()).unwrap().0);
    assert!(String::from_utf8_lossy(&sql).contains("2026-03-29 01:30:00+00"));
    let before = place.properties("zones");
    place.admin("DROP DATABASE zones");
    let outcome = restore(&*place.root(), &sql, &report.record, &place.target(None, false)).unwrap();
    assert_eq!((outcome.problems, outcome.warnings), (Vec::<String>::new(), Vec::<String>::new()));
    assert_eq!((place.properties("zones"), place.sql("SELECT day::text || z FROM public.days")), (before, day));
}
