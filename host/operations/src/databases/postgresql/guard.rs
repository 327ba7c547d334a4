//! What a dump may say to psql and to the server.
//!
//! A dump is a program, and psql runs commands of the shell when a dump asks for them. So only what `pg_dump` itself
//! writes is let through: no command to psql, no statement beyond the list below, no `COPY` but of rows that stand in
//! the dump, nothing about other databases, roles or the server. What is left is the code *within* the database
//! (functions in index expressions, constraints, rules): it runs with the rights of the user that restores, as it does with
//! `pg_restore`.
//!
//! On the way, statements that this user or this server cannot carry out are left out and counted: owners and grants to
//! roles that are missing, tablespaces, settings of newer servers.

use super::{
    lexer::{Lexer, Piece},
    names::quoted,
    roles::Standing,
    scan::{DATABASE_COMPLETE, Seen, Tally, contains},
};
use crate::databases::DatabaseError;
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
};

/// Settings that a dump may make.
const SETTINGS: [&str; 14] = [
    "statement_timeout",
    "lock_timeout",
    "idle_in_transaction_session_timeout",
    "transaction_timeout",
    "client_encoding",
    "standard_conforming_strings",
    "check_function_bodies",
    "xmloption",
    "client_min_messages",
    "row_security",
    "default_tablespace",
    "default_table_access_method",
    "default_with_oids",
    "escape_string_warning",
];
/// Encodings in which a backslash or a quote may be half of a character.
const UNSAFE_ENCODINGS: [&str; 7] = ["SJIS", "BIG5", "GBK", "UHC", "JOHAB", "GB18030", "SHIFT_JIS_2004"];
/// Functions that a dump may call, with literals only.
const FUNCTIONS: [&str; 5] = ["setval", "lo_create", "lo_open", "lowrite", "lo_close"];
/// Nothing of a dump is about these.
const ELSEWHERE: [&str; 7] = ["database", "role", "group", "system", "tablespace", "parameter", "user"];
/// The longest statement whose words are looked at one by one; longer ones are bodies of functions and views.
const SHOWN: usize = 120;

/// What is changed on the way.
#[derive(Debug, Clone, Default)]
pub(super) struct Rules {
    pub superuser: bool,
    pub user: String,
    pub roles: BTreeSet<String>,
    pub tablespaces: BTreeSet<String>,
    pub server: u32,
    /// The whole load is one transaction: a dump's own would end it.
    pub one_transaction: bool,
}

impl Rules {
    pub(super) fn of(standing: &Standing, server: u32, one_transaction: bool) -> Self {
        Self {
            superuser: standing.superuser,
            user: standing.user.clone(),
            roles: standing.roles.clone(),
            tablespaces: standing.tablespaces.clone(),
            server,
            one_transaction,
        }
    }
}

/// Lets a dump through to `out`.
pub(super) struct Guard<'a> {
    lexer: Lexer,
    gate: Gate<'a>,
}

struct Gate<'a> {
    out: &'a mut (dyn Write + Send),
    rules: Rules,
    tally: Tally,
    /// Within `SET SESSION AUTHORIZATION` of a role that cannot be taken.
    foreign_session: bool,
    left_out: BTreeMap<String, BTreeSet<String>>,
    refused: Option<String>,
}

/// What passed, and what did not.
pub(super) struct Passed {
    pub seen: Seen,
    /// In words.
    pub left_out: Vec<String>,
}

impl<'a> Guard<'a> {
    pub(super) fn new(rules: Rules, out: &'a mut (dyn Write + Send)) -> Self {
        let gate =
            Gate { out, rules, tally: Tally::new(DATABASE_COMPLETE), foreign_session: false, left_out: BTreeMap::new(), refused: None };
        Self { lexer: Lexer::new(), gate }
    }

    /// Why the dump was refused, when it was.
    pub(super) fn refused(&mut self) -> Option<String> {
        self.gate.refused.take()
    }

    /// # Errors
    /// A dump that is refused or ends too early.
    pub(super) fn finish(mut self, database: &str) -> Result<Passed, DatabaseError> {
        let gate = &mut self.gate;
        let ended = self.lexer.finish(&mut |piece| gate.piece(&piece)).and_then(|()| gate.out.flush());
        if let Some(what) = self.gate.refused.take() {
            return Err(DatabaseError::BadDump { database: database.to_owned(), what });
        }
        ended.map_err(|source| DatabaseError::Source(Box::new(source)))?;
        let all = |(what, names): (String, BTreeSet<String>)| format!("{what} {}", names.into_iter().collect::<Vec<_>>().join(", "));
        Ok(Passed { left_out: self.gate.left_out.into_iter().map(all).collect(), seen: self.gate.tally.finish()? })
    }
}

impl Write for Guard<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let gate = &mut self.gate;
        self.lexer.feed(bytes, &mut |piece| gate.piece(&piece))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.gate.out.flush()
    }
}

enum Verdict {
    Pass,
    LeaveOut,
    Instead(String),
}

impl Gate<'_> {
    fn piece(&mut self, piece: &Piece<'_>) -> io::Result<()> {
        self.tally.piece(piece);
        match piece {
            Piece::Between(text) | Piece::Rows(text) => self.out.write_all(text),
            Piece::RowsEnd { .. } => self.out.write_all(b"\\.\n"),
            Piece::Statement(text) => match self.judge(text) {
                Ok(Verdict::Pass) => self.out.write_all(text),
                Ok(Verdict::LeaveOut) => Ok(()),
                Ok(Verdict::Instead(text)) => self.out.write_all(text.as_bytes()),
                Err(why) => self.refuse(&why, text),
            },
            Piece::Command(text) if is_restrict(text) => Ok(()),
            Piece::Command(text) => self.refuse("a command to psql", text),
            Piece::Odd(why) => self.refuse(why, b""),
        }
    }

    fn refuse(&mut self, why: &str, text: &[u8]) -> io::Result<()> {
        let shown: String = String::from_utf8_lossy(text).chars().filter(|c| !c.is_control()).take(SHOWN).collect();
        let shown = if shown.is_empty() { shown } else { format!(" (`{shown}`)") };
        self.refused.get_or_insert_with(|| format!("it holds {why}, which pg_dump never writes{shown}; refused"));
        Err(io::Error::other("refused"))
    }

    fn leave_out(&mut self, what: &str, name: &str) -> Verdict {
        self.left_out.entry(what.to_owned()).or_default().insert(name.to_owned());
        Verdict::LeaveOut
    }

    fn judge(&mut self, text: &[u8]) -> Result<Verdict, String> {
        let tokens = Tokens::of(text);
        let first = tokens.word(0);
        let elsewhere =
            |at: usize| ELSEWHERE.contains(&tokens.word(at)) && !(tokens.word(at) == "user" && tokens.word(at + 1) == "mapping");
        match first {
            "set" => return self.set(&tokens),
            "reset" if tokens.words(1, &["session", "authorization"]) => {
                let foreign = std::mem::take(&mut self.foreign_session);
                return Ok(if foreign { Verdict::LeaveOut } else { Verdict::Pass });
            }
            "begin" | "commit" if tokens.0.len() == 2 => {
                return Ok(if self.rules.one_transaction { Verdict::LeaveOut } else { Verdict::Pass });
            }
            _ if self.foreign_session => return Ok(Verdict::LeaveOut),
            "select" => tokens.check_call()?,
            // As the lexer looks for it: or psql and we would not agree on where the rows begin.
            "copy" if text.starts_with(b"COPY ") && text.ends_with(b" FROM stdin;") => tokens.check_copy()?,
            "comment" | "security" if tokens.position_outside("on").is_some_and(|on| !elsewhere(on + 1)) => {}
            "refresh" if tokens.words(1, &["materialized", "view"]) => {}
            "create" if !elsewhere(1) => return self.create(&tokens, text),
            "alter" if !elsewhere(1) => return self.alter(&tokens),
            "grant" | "revoke" => return self.grant(&tokens, first),
            _ => return Err("a statement".to_owned()),
        }
        Ok(Verdict::Pass)
    }

    fn set(&mut self, tokens: &Tokens) -> Result<Verdict, String> {
        if tokens.words(1, &["session", "authorization"]) {
            let role = tokens.name(3).ok_or("a session of nobody")?;
            if self.rules.superuser && self.rules.roles.contains(&role) {
                return Ok(Verdict::Pass);
            }
            self.foreign_session = true;
            return Ok(self.leave_out("left out: grants made by", &role));
        }
        let name = tokens.word(1);
        if !SETTINGS.contains(&name) || tokens.0.len() != 5 {
            return Err("a setting".to_owned());
        }
        let value = tokens.value(3).unwrap_or_default();
        match name {
            "client_encoding" if UNSAFE_ENCODINGS.iter().any(|unsafe_one| value.eq_ignore_ascii_case(unsafe_one)) => {
                Err("an encoding that hides quotes".to_owned())
            }
            "transaction_timeout" if self.rules.server < 17 => Ok(Verdict::LeaveOut),
            "default_tablespace" if !value.is_empty() && !self.rules.tablespaces.contains(&value) => {
                self.leave_out("not on this server, so its tables are in the default tablespace: tablespace", &value);
                Ok(Verdict::Instead("SET default_tablespace = '';".to_owned()))
            }
            _ => Ok(Verdict::Pass),
        }
    }

    fn create(&mut self, tokens: &Tokens, text: &[u8]) -> Result<Verdict, String> {
        // `CREATE GLOBAL TEMPORARY TABLE`: up to two words stand before it.
        let table = tokens.word(1) != "foreign" && (1..=3).any(|at| tokens.word(at) == "table");
        if table && tokens.has_outside("as") {
            return Err("a table made by a query".to_owned());
        }
        if tokens.words(1, &["materialized", "view"]) && !text.ends_with(b"WITH NO DATA;") {
            return Err("a materialized view that is filled at once".to_owned());
        }
        if tokens.word(1) == "subscription" && !contains(text, b"connect = false") {
            return Err("a subscription that connects at once".to_owned());
        }
        let missing = match tokens.word(1) {
            "policy" => tokens.after("to", &["using", "with"]).into_iter().find(|role| self.is_missing(role)),
            "user" => tokens.name(4).filter(|role| self.is_missing(role)),
            _ => None,
        };
        Ok(match missing {
            Some(role) => self.leave_out("left out, as there is no such role: policies and user mappings of", &role),
            None => Verdict::Pass,
        })
    }

    fn alter(&mut self, tokens: &Tokens) -> Result<Verdict, String> {
        let count = tokens.0.len();
        if count > 4 && tokens.words(count - 4, &["owner", "to"]) {
            let role = tokens.name(count - 2).unwrap_or_default();
            let settable = if self.rules.superuser { !self.is_missing(&role) } else { role == self.rules.user };
            let builtin = role == "pg_database_owner";
            return Ok(if settable || builtin && self.rules.superuser {
                Verdict::Pass
            } else {
                self.leave_out(&format!("owned by {} instead of", quoted(&self.rules.user)), &role)
            });
        }
        if tokens.word(1) == "subscription" {
            return Err("a change of a subscription".to_owned());
        }
        if tokens.words(1, &["default", "privileges"]) {
            let owner = tokens.after("role", &["grant", "revoke", "in"]).into_iter().next().unwrap_or_default();
            if !self.rules.superuser && owner != self.rules.user {
                return Ok(self.leave_out("left out: default privileges of", &owner));
            }
            if self.is_missing(&owner) {
                return Ok(self.leave_out("left out, as there is no such role: default privileges of", &owner));
            }
            return self.grant(tokens, if tokens.has_outside("revoke") { "revoke" } else { "grant" });
        }
        Ok(Verdict::Pass)
    }

    fn grant(&mut self, tokens: &Tokens, verb: &str) -> Result<Verdict, String> {
        let object = tokens.position_outside("on").ok_or("a grant of a role")?;
        if ELSEWHERE.contains(&tokens.word(object + 1)) {
            return Err("a grant on something outside of the database".to_owned());
        }
        let word = if verb == "grant" { "to" } else { "from" };
        let missing = tokens.after(word, &["with", "granted"]).into_iter().find(|role| self.is_missing(role));
        Ok(match missing {
            Some(role) => self.leave_out("left out, as there is no such role: grants to", &role),
            None => Verdict::Pass,
        })
    }

    fn is_missing(&self, role: &str) -> bool {
        let special = ["public", "current_user", "session_user"].contains(&role);
        !special && !role.is_empty() && !self.rules.roles.contains(role)
    }
}

/// `\restrict` and `\unrestrict` with the kind of key that `pg_dump` writes. Both are left out: we say our own.
fn is_restrict(text: &[u8]) -> bool {
    let line = text.trim_ascii_end();
    let key = line.strip_prefix(b"\\restrict ").or_else(|| line.strip_prefix(b"\\unrestrict "));
    key.is_some_and(|key| !key.is_empty() && key.iter().all(u8::is_ascii_alphanumeric))
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// In lower case, with what stood there.
    Word(String),
    Name(String),
    Text(String),
    Symbol(u8),
}

/// The words of a statement, without its comments.
struct Tokens(Vec<Token>);

impl Tokens {
    fn of(text: &[u8]) -> Self {
        let (mut tokens, mut rest) = (Vec::new(), text);
        while let Some((token, after)) = next_token(rest) {
            tokens.extend(token);
            rest = after;
        }
        Self(tokens)
    }

    fn word(&self, at: usize) -> &str {
        match self.0.get(at) {
            Some(Token::Word(word)) => word,
            _ => "",
        }
    }

    fn words(&self, at: usize, words: &[&str]) -> bool {
        words.iter().enumerate().all(|(n, word)| self.word(at + n) == *word)
    }

    /// A role or other name.
    fn name(&self, at: usize) -> Option<String> {
        match self.0.get(at) {
            Some(Token::Word(name) | Token::Name(name)) => Some(name.clone()),
            _ => None,
        }
    }

    fn value(&self, at: usize) -> Option<String> {
        match self.0.get(at) {
            Some(Token::Text(text)) => Some(text.clone()),
            _ => self.name(at),
        }
    }

    /// Where `word` stands outside of parentheses.
    fn position_outside(&self, word: &str) -> Option<usize> {
        let mut depth = 0u32;
        self.0.iter().position(|token| {
            match token {
                Token::Symbol(b'(') => depth += 1,
                Token::Symbol(b')') => depth = depth.saturating_sub(1),
                _ => {}
            }
            depth == 0 && matches!(token, Token::Word(found) if found == word)
        })
    }

    fn has_outside(&self, word: &str) -> bool {
        self.position_outside(word).is_some()
    }

    /// The names after the last `word` outside of parentheses, up to one of `until`.
    fn after(&self, word: &str, until: &[&str]) -> Vec<String> {
        let mut depth = 0u32;
        let mut found = None;
        for (at, token) in self.0.iter().enumerate() {
            match token {
                Token::Symbol(b'(') => depth += 1,
                Token::Symbol(b')') => depth = depth.saturating_sub(1),
                Token::Word(here) if depth == 0 && here == word => found = Some(at),
                _ => {}
            }
        }
        let Some(found) = found else { return Vec::new() };
        let names = (found + 1..self.0.len()).take_while(|at| !until.contains(&self.word(*at)));
        names.filter_map(|at| self.name(at)).collect()
    }

    /// `SELECT pg_catalog.setval('a', 1, true);` and the like.
    fn check_call(&self) -> Result<(), String> {
        let call = match self.0.as_slice() {
            [
                _,
                Token::Word(schema),
                Token::Symbol(b'.'),
                Token::Word(name),
                Token::Symbol(b'('),
                arguments @ ..,
                Token::Symbol(b')'),
                Token::Symbol(b';'),
            ] if schema == "pg_catalog" => Some((name, arguments)),
            _ => None,
        };
        let plain = |token: &Token| match token {
            Token::Text(_) | Token::Symbol(b',' | b'-') => true,
            Token::Word(word) => word == "true" || word == "false" || word.bytes().all(|byte| byte.is_ascii_digit()),
            _ => false,
        };
        let allowed = call.is_some_and(|(name, arguments)| {
            let path = name == "set_config" && matches!(arguments.first(), Some(Token::Text(setting)) if setting == "search_path");
            (path || FUNCTIONS.contains(&name.as_str())) && arguments.iter().all(plain)
        });
        if allowed { Ok(()) } else { Err("a query".to_owned()) }
    }

    /// `COPY schema.table (columns) FROM stdin;`
    fn check_copy(&self) -> Result<(), String> {
        let [_, between @ .., Token::Word(from), Token::Word(stdin), Token::Symbol(b';')] = self.0.as_slice() else {
            return Err("a COPY of a file or a program".to_owned());
        };
        let named = matches!(between.first(), Some(Token::Word(_) | Token::Name(_)));
        let plain = |token: &Token| matches!(token, Token::Word(_) | Token::Name(_) | Token::Symbol(b'.' | b',' | b'(' | b')'));
        let once = !between.iter().any(|token| matches!(token, Token::Word(word) if word == "from" || word == "to"));
        if from == "from" && stdin == "stdin" && named && once && between.iter().all(plain) {
            Ok(())
        } else {
            Err("a COPY of a file or a program".to_owned())
        }
    }
}

/// The first token of a text (`None` for what is no token) and what follows it.
fn next_token(text: &[u8]) -> Option<(Option<Token>, &[u8])> {
    let (first, rest) = text.split_first()?;
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | 0x80..);
    Some(match (first, rest) {
        (b'-', [b'-', ..]) => (None, text.get(memchr::memchr2(b'\n', b'\r', text).unwrap_or(text.len())..).unwrap_or_default()),
        (b'/', [b'*', ..]) => (None, after_comment(text)),
        (b'\'', _) => closed_by(rest, b'\'', Token::Text),
        (b'"', _) => closed_by(rest, b'"', Token::Name),
        (b'e' | b'E', [b'\'', rest @ ..]) => escaped(rest),
        (b'$', _) => dollar_quoted(text),
        (byte, _) if byte.is_ascii_whitespace() => (None, rest),
        (byte, _) if is_word(byte) => {
            let end = text.iter().position(|byte| !is_word(byte) && *byte != b'$').unwrap_or(text.len());
            let (word, rest) = text.split_at(end);
            (Some(Token::Word(super::names::decode(word).to_ascii_lowercase())), rest)
        }
        (byte, _) => (Some(Token::Symbol(*byte)), rest),
    })
}

/// Up to the closing mark; two of them stand for one.
fn closed_by(mut rest: &[u8], mark: u8, token: fn(String) -> Token) -> (Option<Token>, &[u8]) {
    let mut inner = Vec::new();
    while let Some(end) = memchr::memchr(mark, rest) {
        inner.extend_from_slice(rest.get(..end).unwrap_or_default());
        rest = rest.get(end + 1..).unwrap_or_default();
        match rest.split_first() {
            Some((next, after)) if *next == mark => {
                inner.push(mark);
                rest = after;
            }
            _ => break,
        }
    }
    (Some(token(super::names::decode(&inner))), rest)
}

fn escaped(text: &[u8]) -> (Option<Token>, &[u8]) {
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        match (byte, text.get(at + 1)) {
            (b'\\', _) | (b'\'', Some(b'\'')) => at += 2,
            (b'\'', _) => break,
            _ => at += 1,
        }
    }
    let inner = super::names::decode(text.get(..at).unwrap_or_default());
    (Some(Token::Text(inner)), text.get(at + 1..).unwrap_or_default())
}

fn dollar_quoted(text: &[u8]) -> (Option<Token>, &[u8]) {
    let rest = text.get(1..).unwrap_or_default();
    let tag = rest.iter().position(|byte| !(byte.is_ascii_alphanumeric() || matches!(byte, b'_' | 0x80..)));
    let Some(tag) = tag.filter(|at| rest.get(*at) == Some(&b'$') && !rest.first().is_some_and(u8::is_ascii_digit)) else {
        return (Some(Token::Symbol(b'$')), rest);
    };
    let (mark, body) = text.split_at(tag + 2);
    match memchr::memmem::find(body, mark) {
        Some(end) => (Some(Token::Text(String::new())), body.get(end + mark.len()..).unwrap_or_default()),
        None => (Some(Token::Text(String::new())), &[]),
    }
}

fn after_comment(text: &[u8]) -> &[u8] {
    let (mut depth, mut at) = (0u32, 0);
    while let Some(pair) = text.get(at..at + 2) {
        match pair {
            b"/*" => (depth, at) = (depth + 1, at + 2),
            b"*/" => {
                (depth, at) = (depth.saturating_sub(1), at + 2);
                if depth == 0 {
                    return text.get(at..).unwrap_or_default();
                }
            }
            _ => at += 1,
        }
    }
    &[]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(rules: Rules, text: &str) -> Result<(String, Vec<String>), String> {
        let mut out = Vec::new();
        let mut guard = Guard::new(rules, &mut out);
        let text = format!("{text}\n--\n-- PostgreSQL database dump complete\n--\n\n\\unrestrict a1\n");
        for part in text.as_bytes().chunks(7) {
            if guard.write_all(part).is_err() {
                return Err(guard.refused().unwrap());
            }
        }
        let passed = guard.finish("shop").map_err(|error| error.to_string())?;
        Ok((String::from_utf8(out).unwrap(), passed.left_out))
    }

    fn root() -> Rules {
        Rules {
            superuser: true,
            user: "postgres".to_owned(),
            roles: ["postgres", "app"].map(str::to_owned).into(),
            server: 15,
            ..Rules::default()
        }
    }

    #[test]
    fn a_hostile_dump_is_refused() {
        for text in [
            "\\! touch /tmp/x",
            "SELECT 1 \\g |sh",
            "\\copy t from program 'id'",
            "\\connect postgres",
            "\\i /etc/passwd",
            "\\unrestrict `id`",
            "\\restrict a b",
            "  \\o |sh",
            "COPY t TO PROGRAM 'id';",
            "COPY t FROM PROGRAM 'id';",
            "COPY t FROM '/etc/passwd';",
            "COPY t TO '/etc/cron.d/x';",
            "COPY (SELECT pg_read_file('/etc/passwd')) TO stdout;",
            "copy t from stdin;",
            "COPY t (a) FROM stdin; \\! id\n\\.\n",
            "COPY t FROM PROGRAM 'id' -- FROM stdin;\n;",
            "DO $$ BEGIN EXECUTE 'x'; END $$;",
            "CALL f();",
            "SELECT pg_read_file('/etc/passwd');",
            "SELECT pg_catalog.setval('a', (SELECT 1), true);",
            "SELECT pg_catalog.lo_export(1, '/tmp/x');",
            "SELECT pg_catalog.set_config('session_preload_libraries', 'x', false);",
            "CREATE TABLE x AS SELECT pg_read_file('/etc/passwd');",
            "CREATE UNLOGGED TABLE x AS TABLE pg_authid;",
            "CREATE LOCAL TEMPORARY TABLE x AS SELECT pg_read_file('/etc/passwd');",
            "CREATE GLOBAL /* */ TEMP TABLE x AS EXECUTE y;",
            "-- x\rDROP DATABASE victim;",
            "CREATE TABLE x -- (\r AS SELECT pg_read_file('/etc/passwd')\n;",
            "-- x\0\nSELECT 1;",
            "CREATE MATERIALIZED VIEW x AS SELECT pg_read_file('/etc/passwd');",
            "CREATE SUBSCRIPTION s CONNECTION 'host=evil' PUBLICATION p;",
            "CREATE ROLE evil SUPERUSER;",
            "CREATE /* */ USER evil;",
            "CREATE DATABASE x;",
            "ALTER ROLE app SUPERUSER;",
            "ALTER USER app SUPERUSER;",
            "ALTER SYSTEM SET archive_command = 'id';",
            "ALTER DATABASE postgres SET x = 'y';",
            "COMMENT ON DATABASE postgres IS 'x';",
            "GRANT pg_execute_server_program TO app;",
            "GRANT ALL ON DATABASE postgres TO app;",
            "SET ROLE app;",
            "SET client_encoding = 'SJIS';",
            "SET dynamic_library_path = '/tmp';",
            "DROP DATABASE postgres;",
            "USE mysql;",
            "LOAD '/tmp/x.so';",
            "CREATE FUNCTION begin() RETURNS int LANGUAGE sql AS 'select 1'; DO $$ $$; END;",
        ] {
            let refused = passed(root(), text).unwrap_err();
            assert!(refused.contains("refused"), "{text}: {refused}");
        }
    }

    #[test]
    fn what_pg_dump_writes_passes_as_it_is() {
        let text = "\
SET statement_timeout = 0;
SELECT pg_catalog.set_config('search_path', '', false);
CREATE TABLE public.t (
    a integer DEFAULT nextval('x'::regclass), \"as\" text GENERATED ALWAYS AS ('\\! x') STORED
);
ALTER TABLE public.t OWNER TO app;
COPY public.t (a, \"from\") FROM stdin;
\\\\! x\tCOPY t TO PROGRAM
\\N\t\\N
\\.
SELECT pg_catalog.setval('public.t_id_seq', -5, true);
SELECT pg_catalog.lowrite(0, '\\x00');
CREATE USER MAPPING FOR app SERVER s;
CREATE POLICY p ON public.t TO PUBLIC USING ((a = 1));
GRANT SELECT(a),UPDATE ON TABLE public.t TO app WITH GRANT OPTION;
ALTER DEFAULT PRIVILEGES FOR ROLE app IN SCHEMA public GRANT SELECT ON TABLES  TO app;
COMMENT ON COLUMN public.t.a IS 'role; \\! x';
REFRESH MATERIALIZED VIEW public.m;
";
        let (out, left_out) = passed(root(), text).unwrap();
        assert!(out.starts_with(text), "{out}");
        assert_eq!(left_out, Vec::<String>::new());
        assert!(!out.contains("unrestrict"));
    }

    #[test]
    fn what_the_server_or_the_user_lacks_is_left_out_and_named() {
        let text = "SET transaction_timeout = 0;\nSET default_tablespace = fast;\nALTER TABLE a OWNER TO gone;\nGRANT SELECT ON TABLE a TO gone;\nGRANT SELECT ON TABLE a TO app;\nCREATE POLICY p ON a TO gone;\n";
        let (out, left_out) = passed(root(), text).unwrap();
        assert!(out.starts_with("\nSET default_tablespace = '';\n\n\nGRANT SELECT ON TABLE a TO app;\n\n"), "{out}");
        assert_eq!(left_out.len(), 4, "{left_out:?}");
        assert!(left_out.iter().filter(|line| line.ends_with(" gone")).count() == 3, "{left_out:?}");

        let plain = Rules { superuser: false, user: "app".to_owned(), one_transaction: true, ..root() };
        let text = "ALTER TABLE a OWNER TO postgres;\nALTER TABLE b OWNER TO app;\nBEGIN;\nCOMMIT;\nSET SESSION AUTHORIZATION postgres;\nGRANT SELECT ON TABLE a TO app;\nRESET SESSION AUTHORIZATION;\nGRANT SELECT ON TABLE b TO app;\n";
        let (out, left_out) = passed(plain, text).unwrap();
        assert_eq!(
            out.split("--").next().unwrap().split_whitespace().collect::<Vec<_>>().join(" "),
            "ALTER TABLE b OWNER TO app; GRANT SELECT ON TABLE b TO app;"
        );
        assert_eq!(left_out.len(), 2, "{left_out:?}");
    }
}
