//! Every type, encoding and kind of object there and back.

use super::*;

const TYPES: &str = r#"
CREATE EXTENSION hstore; CREATE EXTENSION citext;
CREATE TYPE mood AS ENUM ('sad', 'it''s ok', 'happy 😀');
CREATE TYPE pair AS (a integer, "b c" text);
CREATE TYPE nothing AS ();
CREATE TYPE span AS RANGE (subtype = float8, subtype_diff = float8mi);
CREATE DOMAIN positive AS integer CHECK (VALUE > 0);
CREATE TABLE every_type(
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, i2 smallint, i4 integer, n numeric, n2 numeric(10, 3), r real, d double precision, m money,
  c char(5), v varchar(20), t text, ci citext, bin bytea, b boolean, bits bit(3), vbits bit varying,
  dt date, tm time, tmz timetz, ts timestamp, tsz timestamptz, iv interval, e mood, p pair, dom positive, rng int4range, mr nummultirange, sp span,
  ia integer[], ta text[], pa pair[], j json, jb jsonb, x xml, h hstore, ip inet, cd cidr, mac macaddr, u uuid, tv tsvector, tq tsquery,
  pt point, bx box, pg polygon, cr circle, oi oid, rc regclass, ls pg_lsn, nm name, gen integer GENERATED ALWAYS AS (i2 * 2) STORED);
INSERT INTO every_type(i2, i4, n, n2, r, d, m, c, v, t, ci, bin, b, bits, vbits, dt, tm, tmz, ts, tsz, iv, e, p, dom, rng, mr, sp, ia, ta, pa, j, jb, x, h, ip, cd, mac, u, tv, tq, pt, bx, pg, cr, oi, rc, ls, nm)
VALUES
 (-32768, 2147483647, 'NaN', -1234567.890, 'NaN', 'Infinity', '-12.34', 'ab', E'tab\there', E'new\nline \\. \\N \r 😀 \b\f\v $$ '' "', 'CiText', '\x00ff5c0a27', true, B'101', B'', 'infinity', '24:00', '12:00+02', '-infinity', 'infinity', '1 year -2 mons 3 days 04:05:06.789', 'it''s ok', ROW(1, '(,")'), 5, '[1,5)', '{[1.5,2],(3,)}', '[0.1,0.2]', '{{1,2},{3,NULL}}', ARRAY['a"b', E'c\\d', NULL, 'NULL', ''], ARRAY[ROW(1, 'x')::pair], '{"a":  1}', '{"b": [1, null], "a": "é\u0001"}', '<a b="c">é&amp;</a>', '"k \"1"=>NULL, b=>"2"', '::1/64', '10.0.0.0/8', '08:00:2b:01:02:03', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'a:1A fat:2B,4C cat', 'fat & (rat | !cat:AB)', '(1.5,-2)', '((1,2),(3,4))', '((0,0),(1,1),(2,0))', '<(1,2),3.3>', 4294967295, 'pg_class', '16/B374D848', 'name'),
 (0, 0, 1e-20, 0, 1.1754944e-38, 5e-324, 0, '', '', '', '', '', false, B'000', B'1', '4713-01-01 BC', '00:00', '00:00-15:59', '294276-12-31 23:59:59.999999', '4713-01-01 00:00:00+00 BC', '-178000000 years', 'sad', ROW(NULL, NULL), 1, 'empty', '{}', '(,)', '{}', '{}', '{}', 'null', '0', '', '', '0.0.0.0/0', '::/0', '00:00:00:00:00:00', '00000000-0000-0000-0000-000000000000', '', '', '(0,0)', '((0,0),(0,0))', '((0,0))', '<(0,0),0>', 0, NULL, '0/0', '');
INSERT INTO every_type DEFAULT VALUES;
"#;

const OBJECTS: &str = r#"
CREATE TABLE empty(a integer);
CREATE TABLE no_columns(); INSERT INTO no_columns DEFAULT VALUES; INSERT INTO no_columns DEFAULT VALUES;
CREATE TABLE only_generated(a integer GENERATED ALWAYS AS (7) STORED); INSERT INTO only_generated DEFAULT VALUES;
CREATE UNLOGGED TABLE forgetful(a integer); INSERT INTO forgetful VALUES (1);
CREATE TABLE parts(at date, v integer) PARTITION BY RANGE (at);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM ('2026-01-01') TO ('2026-07-01');
CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM ('2026-07-01') TO ('2027-01-01') PARTITION BY LIST (v);
CREATE TABLE parts_2_rest PARTITION OF parts_2 DEFAULT;
INSERT INTO parts VALUES ('2026-01-02', 1), ('2026-08-01', 2), ('2026-09-01', 3);
CREATE TABLE parent(a integer CHECK (a > 0)); CREATE TABLE child(b integer) INHERITS (parent);
INSERT INTO parent VALUES (1); INSERT INTO child VALUES (2, 3);
CREATE SCHEMA "odd S""chéma.x"; CREATE TABLE "odd S""chéma.x"."T.t ""q"" 😀"("a b" integer, "select" text);
INSERT INTO "odd S""chéma.x"."T.t ""q"" 😀" VALUES (1, 'x');
CREATE TABLE "a.b"(a integer); INSERT INTO "a.b" VALUES (1), (2), (3);
CREATE TABLE cycle_a(id integer PRIMARY KEY, b integer); CREATE TABLE cycle_b(id integer PRIMARY KEY, a integer REFERENCES cycle_a DEFERRABLE INITIALLY DEFERRED);
ALTER TABLE cycle_a ADD FOREIGN KEY (b) REFERENCES cycle_b DEFERRABLE;
INSERT INTO cycle_a VALUES (1, NULL); INSERT INTO cycle_b VALUES (1, 1); UPDATE cycle_a SET b = 1;
CREATE TABLE unique_later(a integer UNIQUE DEFERRABLE INITIALLY DEFERRED, EXCLUDE USING gist (int4range(a, a, '[]') WITH &&));
CREATE VIEW v1 AS SELECT at, v FROM parts; CREATE VIEW v2 AS SELECT * FROM v1 WHERE v > 1 WITH CHECK OPTION;
CREATE VIEW grouped AS SELECT id, b FROM cycle_a GROUP BY id;
CREATE MATERIALIZED VIEW mv AS SELECT count(*) AS n FROM v2; CREATE UNIQUE INDEX ON mv (n);
CREATE MATERIALIZED VIEW mv_empty AS SELECT 1 AS one WITH NO DATA;
CREATE SEQUENCE numbers START 5 INCREMENT -3 MINVALUE -100 MAXVALUE 100 CYCLE; SELECT nextval('numbers'), nextval('numbers');
CREATE SEQUENCE untouched AS smallint;
CREATE TABLE log(at timestamptz DEFAULT now(), what text);
CREATE FUNCTION logs() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN INSERT INTO log(what) VALUES ('COPY x FROM stdin;
\! echo'); RETURN NEW; END $f$;
CREATE TRIGGER t_log AFTER INSERT ON parts FOR EACH ROW EXECUTE FUNCTION logs();
CREATE TRIGGER t_off BEFORE UPDATE OF b ON cycle_a FOR EACH ROW WHEN (NEW.b IS NOT NULL) EXECUTE FUNCTION logs(); ALTER TABLE cycle_a DISABLE TRIGGER t_off;
CREATE FUNCTION sql_body(a integer, VARIADIC b integer[] DEFAULT '{1}') RETURNS integer LANGUAGE sql BEGIN ATOMIC SELECT CASE WHEN a > 0 THEN 1 ELSE 2 END; SELECT a + b[1]; END;
CREATE PROCEDURE does() LANGUAGE plpgsql AS 'BEGIN NULL; END';
CREATE FUNCTION on_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN END $$;
CREATE EVENT TRIGGER "ddl watch" ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION on_ddl();
CREATE AGGREGATE product(integer) (SFUNC = int4mul, STYPE = integer, INITCOND = '1');
CREATE FUNCTION near(integer, integer) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT abs($1 - $2) < 2';
CREATE OPERATOR ~~~ (LEFTARG = integer, RIGHTARG = integer, FUNCTION = near, COMMUTATOR = ~~~);
CREATE CAST (text AS pair) WITH INOUT AS ASSIGNMENT;
CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TEXT SEARCH CONFIGURATION dutch2 (COPY = dutch);
CREATE STATISTICS st (dependencies) ON at, v FROM parts_1;
CREATE RULE both_ways AS ON INSERT TO empty DO ALSO (INSERT INTO log(what) VALUES (';'); UPDATE log SET what = 'x' WHERE false);
CREATE PUBLICATION pub FOR TABLE parent;
ALTER TABLE log ENABLE ROW LEVEL SECURITY; CREATE POLICY mine ON log FOR SELECT TO reader USING (what = current_user);
CREATE POLICY theirs ON log FOR INSERT TO PUBLIC WITH CHECK (true);
COMMENT ON TABLE log IS E'it''s\n-- PostgreSQL database dump complete\n\\! x'; COMMENT ON COLUMN log.what IS 'w'; COMMENT ON SCHEMA public IS 'ours';
GRANT SELECT (what), INSERT ON log TO reader WITH GRANT OPTION; GRANT USAGE ON SCHEMA "odd S""chéma.x" TO reader; REVOKE EXECUTE ON PROCEDURE does() FROM PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE writer IN SCHEMA public GRANT SELECT ON TABLES TO reader;
ALTER TABLE parent OWNER TO writer; ALTER FUNCTION near(integer, integer) OWNER TO writer;
SELECT lo_from_bytea(4711, decode(repeat('00ff5c270a', 20000), 'hex')); SELECT lo_create(4712); ALTER LARGE OBJECT 4712 OWNER TO writer; GRANT SELECT ON LARGE OBJECT 4711 TO reader; COMMENT ON LARGE OBJECT 4711 IS 'blob';
CREATE FOREIGN DATA WRAPPER fdw; CREATE SERVER far FOREIGN DATA WRAPPER fdw OPTIONS (host 'x'); CREATE USER MAPPING FOR reader SERVER far OPTIONS (password 'p');
CREATE FOREIGN TABLE away(a integer) SERVER far;
"#;

fn roles(place: &Place) {
    let sql = "DO $$ BEGIN CREATE ROLE reader; CREATE ROLE writer; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$";
    place.admin(sql);
}

#[test]
fn everything_comes_back_the_same_and_dumps_are_deterministic() {
    let place = place("everything");
    roles(&place);
    place.sql(&format!("{TYPES}{OBJECTS}"));
    let before = place.fingerprint("everything");
    let (sql, report) = dump(&*place.root(), &place.options()).unwrap();
    assert!(sql == dump(&*place.root(), &place.options()).unwrap().0);
    assert_eq!(globals(&*place.root(), &place.options()), globals(&*place.root(), &place.options()));
    let record = report.record;
    let counts = ["every_type", "empty", "no_columns", "only_generated", "parts_1", "parts_2_rest", "parent", "child", "\"a.b\""];
    assert_eq!(counts.map(|table| record.rows[table]), [3, 0, 2, 1, 1, 2, 1, 1, 3]);
    assert_eq!(record.rows["\"odd S\"\"chéma.x\".\"T.t \"\"q\"\" 😀\""], 1);
    let objects = ["views", "materialized views", "triggers", "event triggers", "policies", "extensions", "large objects", "types"];
    assert_eq!(objects.map(|kind| record.objects[kind]), [3, 2, 2, 1, 2, 2, 2, 5]);
    assert_eq!((record.objects["sequences"], record.objects["routines"]), (3, 6));
    assert_eq!((record.engine.as_str(), record.charset.as_str(), record.collation.as_str()), ("postgresql", "UTF8", "C.UTF-8"));
    assert!(record.position.contains('/'), "{}", record.position);
    for about in ["forgetful", "away", "log"] {
        assert!(record.warnings.iter().any(|warning| warning.contains(about)), "{about}: {:?}", record.warnings);
    }

    place.admin("DROP DATABASE everything");
    let outcome = restore(&*place.root(), &sql, &record, &place.target(None, false)).unwrap();
    assert_eq!(outcome.problems, Vec::<String>::new());
    assert_eq!((outcome.tables_verified, outcome.kept), (record.rows.len() as u64, None));
    let after = place.fingerprint("everything");
    let differs = before.lines().zip(after.lines()).find(|(before, after)| before != after);
    assert!(before == after, "{differs:?}");
    assert!(sql == dump(&*place.root(), &place.options()).unwrap().0);
    assert_eq!(place.databases(), ["everything"]);
}

#[test]
fn a_latin1_database_and_one_without_an_encoding_keep_every_byte() {
    for (name, options) in
        [("latin", "ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'"), ("ascii", "ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'")]
    {
        let place = place_with(name, options);
        // As the bytes 0xE9 and 0x80 to 0x9F, which UTF-8 has not.
        place.sql("SET client_encoding = SQL_ASCII; CREATE TABLE t(a text); INSERT INTO t SELECT convert_from(decode('e9809f', 'hex'), getdatabaseencoding())");
        place.sql("DO $$ BEGIN EXECUTE format('CREATE TABLE %I(a integer)', convert_from(decode('63616681e9', 'hex'), getdatabaseencoding())); END $$");
        let bytes = || place.sql("SELECT encode(convert_to(a, getdatabaseencoding()), 'hex') FROM t");
        assert_eq!(bytes(), "e9809f\n");
        let (sql, report) = dump(&*place.root(), &place.options()).unwrap();
        assert!(sql == dump(&*place.root(), &place.options()).unwrap().0);
        place.admin(&format!("DROP DATABASE {name}"));
        let outcome = restore(&*place.root(), &sql, &report.record, &place.target(None, false)).unwrap();
        assert_eq!((bytes().as_str(), outcome.problems.len(), outcome.tables_verified), ("e9809f\n", 0, 2));
        assert!(place.properties(name).starts_with(if name == "latin" { "LATIN1|C|C" } else { "SQL_ASCII|C|C" }));
        assert!(sql == dump(&*place.root(), &place.options()).unwrap().0);
    }
}

#[test]
fn a_database_with_a_locale_of_its_own_gets_it_back() {
    let place = place_with("locale", "ENCODING 'UTF8' LOCALE_PROVIDER icu ICU_LOCALE 'nl-NL' LC_COLLATE 'C' LC_CTYPE 'C.UTF-8'");
    place.sql("CREATE TABLE t(a text); INSERT INTO t VALUES ('é'), ('z'), ('a')");
    let (sql, report) = dump(&*place.root(), &place.options()).unwrap();
    place.admin("DROP DATABASE locale");
    restore(&*place.root(), &sql, &report.record, &place.target(None, false)).unwrap();
    assert_eq!(place.sql("SELECT string_agg(a, '' ORDER BY a) FROM t"), "aéz\n");
    assert_eq!(
        place.admin("SELECT datlocprovider, daticulocale, datcollate, datctype FROM pg_database WHERE datname = 'locale'"),
        "i|nl-NL|C|C.UTF-8\n"
    );
}

#[test]
fn a_restored_database_answers_the_questions_of_a_strategy() {
    let place = place("questions");
    place.sql(
        "CREATE TABLE migrations(id serial, migration text); INSERT INTO migrations(migration) VALUES ('a'), (NULL), ('');
        CREATE SCHEMA app; CREATE TABLE app.only_here(a integer); INSERT INTO app.only_here VALUES (1);
        CREATE TABLE \"od.d\"(a integer)",
    );
    let mut scratch = place.connect(&[("database", "postgres")]).open_scratch(Some("questions")).unwrap();
    assert_eq!(scratch.tables().unwrap(), ["\"od.d\"", "app.only_here", "migrations"]);
    assert_eq!(
        (scratch.count_rows("migrations"), scratch.count_rows("app.only_here"), scratch.count_rows("only_here")),
        (Ok(3), Ok(1), Ok(1))
    );
    assert_eq!(scratch.sample("migrations", "migration", 5).unwrap(), [Some("a".to_owned()), None, Some(String::new())]);
    for bad in ["nothing", "migrations; DROP TABLE migrations", "pg_catalog.pg_class"] {
        assert!(scratch.count_rows(bad).is_err(), "{bad}");
    }
    assert!(scratch.sample("migrations", "id FROM migrations; DROP TABLE migrations; --", 1).is_err());
    assert_eq!(place.sql("SELECT count(*) FROM migrations"), "3\n");
}
