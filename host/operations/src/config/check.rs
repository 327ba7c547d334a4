//! A document against its shape: every error of the file in one pass, each with line and column.

use super::{
    DrillChoice, Objective, Price, Rate, Span,
    notify::{ToldEvent, time_of_day},
    shape::{Key, Kind, Rule, Shape},
};
use havun_model::{Digest, ProjectName, StoreName, retention::Term};
use jiff::tz::TimeZone;
use std::ops::Range;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// One error in a configuration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// What is wrong, and what would be right.
    pub message: String,
}

/// Collects what is wrong, and where plain secrets stand.
pub(super) struct Checker<'t> {
    text: &'t str,
    /// Names of `[stores]`.
    stores: Vec<String>,
    problems: Vec<(usize, String)>,
    /// Offset and key of each secret that stands in the file itself.
    plain: Vec<(usize, String)>,
}

impl<'t> Checker<'t> {
    pub fn new(text: &'t str) -> Self {
        Self { text, stores: Vec::new(), problems: Vec::new(), plain: Vec::new() }
    }

    /// Checks a whole document.
    pub fn document(&mut self, table: &Spanned<DeTable<'_>>, shape: &Shape) {
        let stores = table.get_ref().get("stores").and_then(|v| v.get_ref().as_table());
        self.stores = stores.into_iter().flat_map(|t| t.keys()).map(|key| key.get_ref().to_string()).collect();
        self.table(table.get_ref(), 0..0, shape, "");
    }

    pub fn report(&mut self, at: usize, message: String) {
        self.problems.push((at, message));
    }

    /// What was found, in the order of the file.
    pub fn problems(&self) -> Vec<Problem> {
        let mut found = self.problems.clone();
        found.sort();
        found.dedup();
        let place = |(at, message): (usize, String)| {
            let (line, column) = line_column(self.text, at);
            Problem { line, column, message }
        };
        found.into_iter().map(place).collect()
    }

    /// Line, column and key of each plain secret, in the order of the file.
    pub fn plain_secrets(&self) -> Vec<(usize, usize, String)> {
        let mut found = self.plain.clone();
        found.sort();
        found.into_iter().map(|(at, key)| (line_column(self.text, at).0, line_column(self.text, at).1, key)).collect()
    }

    fn table(&mut self, table: &DeTable<'_>, place: Range<usize>, shape: &Shape, path: &str) {
        for (name, value) in table {
            match shape.keys.iter().find(|key| key.name == name.get_ref().as_ref()) {
                Some(key) => self.value(value, key, name.span().start, path),
                None => {
                    let known = shape.keys.iter().map(|key| key.name);
                    let message = format!("unknown key `{}`{}{}", name.get_ref(), within(path), did_you_mean(name.get_ref(), known));
                    self.report(name.span().start, message);
                }
            }
        }
        for key in shape.keys.iter().filter(|key| key.required && !table.contains_key(key.name)) {
            self.report(place.start, format!("`{}` is missing{}: {}", key.name, within(path), key.doc));
        }
    }

    fn value(&mut self, value: &Spanned<DeValue<'_>>, key: &Key, key_at: usize, path: &str) {
        let at = value.span().start;
        let name = key.name;
        match (key.kind, value.get_ref()) {
            (Kind::Text | Kind::Path, DeValue::String(text)) if text.is_empty() => self.report(at, format!("`{name}` is empty")),
            (Kind::Text | Kind::Path, DeValue::String(_)) | (Kind::Bool, DeValue::Boolean(_)) | (Kind::Free, DeValue::Table(_)) => {}
            (Kind::Port, DeValue::Integer(_)) if port(value.get_ref()).is_some() => {}
            (Kind::Count(low, high), DeValue::Integer(_)) => {
                if whole(value.get_ref()).is_none_or(|number| !(low..=high).contains(&number)) {
                    self.report(at, format!("`{name}` must be a whole number from {low} to {high}"));
                }
            }
            (Kind::Word(words), DeValue::String(text)) if words.contains(&text.as_ref()) => {}
            (Kind::Word(words), DeValue::String(text)) => {
                let near = did_you_mean(text, words.iter().copied());
                self.report(at, format!("`{name}` cannot be `{text}`: use {}{near}", one_of(words)));
            }
            (Kind::Checked(rule), DeValue::String(text)) => self.rule(rule, text, name, at),
            (Kind::Texts | Kind::CheckedList(_), DeValue::Array(list)) => list.iter().for_each(|item| self.list_item(item, key)),
            (Kind::Secret, DeValue::String(_)) => self.plain.push((at, name.to_owned())),
            (Kind::SecretUrl(schemes), DeValue::String(text)) => self.url(text, schemes, name, at),
            (Kind::Secret | Kind::SecretUrl(_), DeValue::Table(table)) => self.secret(table, name, at),
            (Kind::Section(shape), DeValue::Table(table)) => self.table(table, key_at..key_at, shape, &join(path, name)),
            (Kind::Command, DeValue::Array(list)) => {
                if list.is_empty() {
                    self.report(at, format!("`{name}` is empty: it needs a program, and its arguments as texts of their own"));
                }
                list.iter().for_each(|item| self.argument(item, name));
            }
            (Kind::OneOf(kinds), DeValue::Table(table)) => {
                if let Some(shape) = self.kind(value, kinds) {
                    self.table(table, key_at..key_at, shape, &join(path, name));
                }
            }
            (Kind::Named(shape), DeValue::Table(table)) => self.named(table, name, path, |_, _| Some(shape)),
            (Kind::Kinds(kinds), DeValue::Table(table)) => self.named(table, name, path, |checker, entry| checker.kind(entry, kinds)),
            (kind, other) => self.report(at, format!("`{name}` must be {}, not {}", expectation(kind), article(other.type_str()))),
        }
    }

    fn named(
        &mut self,
        table: &DeTable<'_>,
        section: &str,
        path: &str,
        shape_of: impl Fn(&mut Self, &Spanned<DeValue<'_>>) -> Option<&'static Shape>,
    ) {
        for (name, value) in table {
            let at = name.span().start;
            if let Err(message) = check_name(section, name.get_ref()) {
                self.report(at, message);
            }
            let place = join(&join(path, section), name.get_ref());
            match value.get_ref() {
                DeValue::Table(entry) => {
                    if let Some(shape) = shape_of(self, value) {
                        self.table(entry, at..at, shape, &place);
                    }
                }
                other => self.report(value.span().start, format!("`{place}` must be a table, not {}", article(other.type_str()))),
            }
        }
    }

    /// The shape that `kind` asks for. Where it says nothing known, only that is reported.
    fn kind(&mut self, entry: &Spanned<DeValue<'_>>, kinds: &'static [(&'static str, &'static Shape)]) -> Option<&'static Shape> {
        let words: Vec<&str> = kinds.iter().map(|(word, _)| *word).collect();
        let Some(kind) = entry.get_ref().get("kind") else {
            return kinds.first().map(|(_, shape)| *shape);
        };
        let Some(word) = kind.get_ref().as_str() else {
            self.report(kind.span().start, format!("`kind` must be a text, not {}", article(kind.get_ref().type_str())));
            return None;
        };
        let found = kinds.iter().find(|(known, _)| *known == word).map(|(_, shape)| *shape);
        if found.is_none() {
            let near = did_you_mean(word, words.iter().copied());
            self.report(kind.span().start, format!("`kind` cannot be `{word}`: use {}{near}", one_of(&words)));
        }
        found
    }

    fn list_item(&mut self, item: &Spanned<DeValue<'_>>, key: &Key) {
        match (item.get_ref(), key.kind) {
            (DeValue::String(text), _) if text.is_empty() => self.report(item.span().start, format!("`{}` holds an empty text", key.name)),
            (DeValue::String(text), Kind::CheckedList(rule)) => self.rule(rule, text, key.name, item.span().start),
            (DeValue::String(_), _) => {}
            (other, _) => {
                let message = format!("`{}` must hold texts, not {}", key.name, article(other.type_str()));
                self.report(item.span().start, message);
            }
        }
    }

    /// An argument may be empty, but never hold what no argument can.
    fn argument(&mut self, item: &Spanned<DeValue<'_>>, name: &str) {
        let wrong = match item.get_ref() {
            DeValue::String(text) if text.contains('\0') => "holds a NUL character".to_owned(),
            DeValue::String(_) => return,
            other => format!("must hold texts, not {}", article(other.type_str())),
        };
        self.report(item.span().start, format!("`{name}` {wrong}"));
    }

    fn rule(&mut self, rule: Rule, text: &str, name: &str, at: usize) {
        let wrong = match rule {
            Rule::Term => text.parse::<Term>().err().map(|e| e.to_string()),
            Rule::Schedule => text.parse::<crate::schedule::Schedule>().err().map(|e| e.to_string()),
            Rule::TimeZone => {
                let known = TimeZone::get(text).is_ok();
                (!known).then(|| format!("`{text}` is not a time zone of this machine: use a name like `Europe/Amsterdam`"))
            }
            Rule::Recipient => recipient_error(text),
            Rule::HostKey => (!is_host_key(text)).then(|| {
                format!("`{text}` is not a host key: use `hetzner`, `SHA256:…` or `ssh-ed25519 AAAA…` (`ssh-keyscan HOST` prints it)")
            }),
            Rule::StoreName => self.store_error(text),
            Rule::AnyStore => (text != "any").then(|| self.store_error(text)).flatten(),
            Rule::Objective => text.parse::<Objective>().err().map(|e| e.to_string()),
            Rule::DrillChoice => not_among(text, DrillChoice::ALL.map(DrillChoice::word).as_slice()),
            Rule::Span => text.parse::<Span>().err().map(|e| e.to_string()),
            Rule::Event => not_among(text, ToldEvent::ALL.map(ToldEvent::word).as_slice()),
            Rule::TimeOfDay => time_of_day(text).is_none().then(|| format!("`{text}` is not a time of day: write it as `07:00`")),
            Rule::Socket => text
                .parse::<std::net::SocketAddr>()
                .err()
                .map(|_| format!("`{text}` is not an address and a port: write `127.0.0.1:9105` or `[::1]:9105`")),
            Rule::Digest => text.parse::<Digest>().err().map(|e| e.to_string()),
            Rule::Address => (!is_address(text)).then(|| format!("`{text}` is not a mail address")),
            Rule::Rate => text.parse::<Rate>().err().map(|e| e.to_string()),
            Rule::Price => text.parse::<Price>().err().map(|e| e.to_string()),
            Rule::User => crate::users::User::named(text).err().map(|e| e.to_string()),
            Rule::Volume => (!is_volume(text)).then(|| format!("`{text}` is not a name that LVM or ZFS would take")),
            Rule::VolumeSize => (!is_volume_size(text)).then(|| format!("`{text}` is not a size: use `5G` or `10%ORIGIN`")),
            Rule::HttpUrl => (!has_scheme(text, &["https", "http"])).then(|| format!("`{text}` is not an http(s) address")),
        };
        if let Some(why) = wrong {
            self.report(at, format!("`{name}`: {why}"));
        }
    }

    fn store_error(&self, text: &str) -> Option<String> {
        if self.stores.iter().any(|name| name == text) {
            return None;
        }
        let near = did_you_mean(text, self.stores.iter().map(String::as_str));
        Some(format!("there is no store `{text}` in [stores]{near}"))
    }

    fn url(&mut self, text: &str, schemes: &[&str], name: &str, at: usize) {
        if !has_scheme(text, schemes) {
            let wanted: Vec<String> = schemes.iter().map(|scheme| format!("{scheme}://")).collect();
            self.report(at, format!("`{name}` must begin with {}", one_of(&wanted.iter().map(String::as_str).collect::<Vec<_>>())));
        } else if url::Url::parse(text).is_ok_and(|url| url.password().is_some()) {
            self.plain.push((at, name.to_owned()));
        }
    }

    fn secret(&mut self, table: &DeTable<'_>, name: &str, at: usize) {
        const FORMS: &[&str] = &["file", "env", "credential"];
        for (key, value) in table {
            if !FORMS.contains(&key.get_ref().as_ref()) {
                let near = did_you_mean(key.get_ref(), FORMS.iter().copied());
                self.report(key.span().start, format!("unknown key `{}` in the secret `{name}`{near}", key.get_ref()));
            } else if value.get_ref().as_str().is_none_or(str::is_empty) {
                self.report(value.span().start, format!("`{}` of the secret `{name}` must be a text", key.get_ref()));
            }
        }
        let given = table.keys().filter(|key| FORMS.contains(&key.get_ref().as_ref())).count();
        if given != 1 {
            self.report(at, format!("the secret `{name}` needs exactly one of `file`, `env` and `credential`"));
        }
    }
}

/// Line and column (in characters) of a byte offset, both from 1.
pub(super) fn line_column(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at.min(text.len())).unwrap_or_default();
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
    (before.matches('\n').count() + 1, column)
}

/// A port from 1 to 65535.
pub(super) fn port(value: &DeValue<'_>) -> Option<u16> {
    whole(value).filter(|port| *port > 0)
}

/// A whole number from 0 to 65535.
pub(super) fn whole(value: &DeValue<'_>) -> Option<u16> {
    let integer = value.as_integer()?;
    u16::from_str_radix(integer.as_str(), integer.radix()).ok()
}

/// ` (did you mean …?)`, or nothing.
pub(super) fn did_you_mean<'a>(text: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let lower = text.to_lowercase();
    let scored = known.into_iter().map(|word| (strsim::damerau_levenshtein(&lower, word), word));
    let near = scored.min_by_key(|(distance, _)| *distance).filter(|(distance, word)| *distance <= 1 + word.len() / 4);
    near.map_or_else(String::new, |(_, word)| format!(" (did you mean `{word}`?)"))
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn within(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!(" in [{path}]") }
}

fn one_of(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

fn article(kind: &str) -> String {
    let vowel = kind.starts_with(['a', 'e', 'i', 'o', 'u']);
    format!("{} {kind}", if vowel { "an" } else { "a" })
}

fn expectation(kind: Kind) -> &'static str {
    match kind {
        Kind::Text | Kind::Path | Kind::Word(_) | Kind::Checked(_) => "a text",
        Kind::Texts | Kind::CheckedList(_) => "a list of texts",
        Kind::Command => "a list of texts: a program and its arguments",
        Kind::Bool => "true or false",
        Kind::Port => "a port from 1 to 65535",
        Kind::Count(..) => "a whole number",
        Kind::Secret | Kind::SecretUrl(_) => "a secret: a text, or a table with `file`, `env` or `credential`",
        Kind::Section(_) | Kind::Named(_) | Kind::Kinds(_) | Kind::OneOf(_) | Kind::Free => "a table",
    }
}

fn check_name(section: &str, name: &str) -> Result<(), String> {
    let error = match section {
        "stores" => StoreName::new(name).err().map(|e| e.to_string()),
        "projects" => ProjectName::new(name).err().map(|e| e.to_string()),
        _ if name.is_empty() || name.len() > 64 || name.chars().any(char::is_control) => Some(format!("`{name}` is not a name")),
        _ => None,
    };
    error.map_or(Ok(()), Err)
}

fn not_among(text: &str, words: &[&str]) -> Option<String> {
    (!words.contains(&text)).then(|| format!("`{text}` is none of {}{}", one_of(words), did_you_mean(text, words.iter().copied())))
}

fn recipient_error(text: &str) -> Option<String> {
    if text.to_uppercase().starts_with("AGE-SECRET-KEY-") {
        return Some(
            "this is a secret key; a recipient begins with `age1` (`age-keygen -y FILE` prints it). Make a new escrow key".to_owned(),
        );
    }
    text.parse::<havun_vault::keys::Recipient>().err().map(|_| format!("`{text}` is not an age recipient (age1…)"))
}

fn is_host_key(text: &str) -> bool {
    let base64 = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'='));
    let mut words = text.split_ascii_whitespace();
    match (words.next(), words.next()) {
        (Some("hetzner"), None) => true,
        (Some(word), None) => word.strip_prefix("SHA256:").is_some_and(|hash| hash.len() >= 43 && base64(hash)),
        (Some(kind), Some(key)) => (kind.starts_with("ssh-") || kind.starts_with("ecdsa-")) && key.starts_with("AAAA") && base64(key),
        _ => false,
    }
}

/// No option, no path that leads elsewhere.
fn is_volume(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '+' | ':' | '/');
    text.chars().all(plain) && text.split('/').all(|part| !part.is_empty() && part != ".." && part != "." && !part.starts_with('-'))
}

fn is_volume_size(text: &str) -> bool {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    number.parse::<u64>().is_ok_and(|n| n > 0) && matches!(unit, "M" | "G" | "T" | "%ORIGIN" | "%FREE" | "%VG")
}

fn is_address(text: &str) -> bool {
    let plain = !text.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, ',' | ';' | '<' | '>'));
    plain && text.split_once('@').is_some_and(|(user, domain)| !user.is_empty() && !domain.is_empty() && !domain.contains('@'))
}

fn has_scheme(text: &str, schemes: &[&str]) -> bool {
    text.split_once(':').is_some_and(|(scheme, rest)| !rest.is_empty() && schemes.contains(&scheme.to_ascii_lowercase().as_str()))
}
