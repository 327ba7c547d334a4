//! What the project's own files say: package.json, dotenv files, the Prisma schema.

use crate::settings::NodeSettings;
use havun_backup_sdk::{
    dotenv::{self, Syntax},
    prelude::*,
};
use serde_json::Value;

/// Dotenv files, the one that wins first.
const ENV_FILES: [&str; 4] = [".env.production.local", ".env.local", ".env.production", ".env"];

/// Lock files and what brings `node_modules` back from them.
const LOCKS: [(&str, &str); 6] = [
    ("package-lock.json", "npm ci"),
    ("npm-shrinkwrap.json", "npm ci"),
    ("pnpm-lock.yaml", "pnpm install --frozen-lockfile"),
    ("yarn.lock", "yarn install --immutable"),
    ("bun.lock", "bun install --frozen-lockfile"),
    ("bun.lockb", "bun install --frozen-lockfile"),
];

/// The project's files, as far as they can be read.
pub struct Project<'r> {
    /// The tree.
    pub root: &'r dyn Tree,
    package: Value,
    env: Vec<(String, Vec<(String, String)>)>,
    /// Dotenv files that are there and cannot be read.
    pub unreadable: Vec<String>,
}

impl<'r> Project<'r> {
    /// Reads what is there; nothing is required.
    pub fn read(root: &'r dyn Tree, settings: &NodeSettings) -> Self {
        let mut project = Self { root, package: root.json("package.json").unwrap_or_default(), env: Vec::new(), unreadable: Vec::new() };
        let files: Vec<&str> = match &settings.env_file {
            Some(file) => vec![file],
            None => ENV_FILES.to_vec(),
        };
        for file in files.into_iter().filter(|file| root.exists(file)) {
            match root.text(file).and_then(|text| dotenv::parse(&text, Syntax::Dotenv).ok()) {
                Some(entries) => project.env.push((file.to_owned(), entries)),
                None => project.unreadable.push(file.to_owned()),
            }
        }
        project
    }

    /// The file that decides on `name`, and its value there; empty values count as not set.
    pub fn env(&self, name: &str) -> Option<(&str, &str)> {
        let found = self.env.iter().find_map(|(file, entries)| Some((file.as_str(), dotenv::get(entries, name)?)));
        found.filter(|(_, value)| !value.is_empty())
    }

    /// Whether package.json depends on `name`.
    pub fn depends_on(&self, name: &str) -> bool {
        ["dependencies", "devDependencies"].iter().any(|section| self.package.get(section).and_then(|section| section.get(name)).is_some())
    }

    /// Whether package.json has a script of this name.
    pub fn has_script(&self, name: &str) -> bool {
        self.package.get("scripts").and_then(|scripts| scripts.get(name)).is_some()
    }

    /// Whether package.json is there and an object.
    pub fn has_package(&self) -> bool {
        self.package.is_object()
    }

    /// What brings `node_modules` back, if a lock file is there.
    pub fn install_command(&self) -> Option<&'static str> {
        LOCKS.iter().find(|(file, _)| self.root.is_file(file)).map(|(_, command)| *command)
    }

    /// How the lock file differs from package.json: what `npm ci` and its like would refuse. Nothing for a lock file that
    /// cannot be read here.
    pub fn lock_differences(&self) -> Vec<String> {
        let Some((file, _)) = LOCKS.iter().find(|(file, _)| self.root.is_file(file)) else { return Vec::new() };
        let sections = ["dependencies", "devDependencies", "optionalDependencies"];
        let wanted = sections.iter().filter_map(|section| self.package.get(section)?.as_object()).flatten();
        let wanted: Vec<(&str, &str)> = wanted.filter_map(|(name, range)| Some((name.as_str(), range.as_str()?))).collect();
        match *file {
            "package-lock.json" | "npm-shrinkwrap.json" => match self.root.json(file) {
                Some(lock) => npm_differences(&lock, &wanted),
                None => vec![format!("{file} does not parse")],
            },
            "bun.lockb" => Vec::new(),
            _ => {
                let text = self.root.text(file).unwrap_or_default();
                let missing = wanted.iter().filter(|(name, _)| !text.contains(name));
                missing.map(|(name, _)| format!("{name} is not in {file}")).collect()
            }
        }
    }

    /// What Prisma says of the database.
    pub fn prisma(&self) -> Option<Prisma> {
        let named = self.package.get("prisma").and_then(|prisma| prisma.get("schema")).and_then(Value::as_str);
        let known = ["prisma/schema.prisma", "schema.prisma", "prisma/schema/schema.prisma", "prisma/schema/main.prisma"];
        let config = ["prisma.config.ts", "prisma.config.js", "prisma.config.mjs"].iter().find_map(|file| self.root.text(file));
        let named = named.map(str::to_owned).or_else(|| quoted_after(config.as_deref()?, "schema:"));
        let paths = named.into_iter().map(|path| path.trim_start_matches("./").to_owned()).chain(known.map(str::to_owned));
        let schema = paths.into_iter().find_map(|path| Some((self.root.text(&path)?, path)));
        let (text, path) = schema.unwrap_or_default();
        let source = text.split_once("datasource").and_then(|(_, rest)| rest.split_once('}')).map_or("", |(block, _)| block);
        // Since Prisma 7 the URL stands in prisma.config.ts, and is relative to it.
        let from_schema = url_of(source, "url");
        let folder = from_schema.as_ref().and_then(|_| path.rsplit_once('/')).map_or(String::new(), |(folder, _)| folder.to_owned());
        let url = from_schema.or_else(|| url_of(config.as_deref()?, "url"))?;
        Some(Prisma { url, folder })
    }
}

/// Since version 2 the lock file repeats what package.json asks for; version 1 only has what came of it.
fn npm_differences(lock: &Value, wanted: &[(&str, &str)]) -> Vec<String> {
    let Some(root) = lock.get("packages").map(|packages| packages.get("").unwrap_or(&Value::Null)) else {
        let has = |name: &str| lock.get("dependencies").and_then(|all| all.get(name)).is_some();
        return wanted.iter().filter(|(name, _)| !has(name)).map(|(name, _)| format!("{name} is not locked")).collect();
    };
    let sections = ["dependencies", "devDependencies", "optionalDependencies"];
    let locked = |name: &str| sections.iter().find_map(|section| root.get(section)?.get(name)?.as_str());
    let differs = |(name, range): &(&str, &str)| match locked(name) {
        Some(known) if known == *range => None,
        Some(known) => Some(format!("{name} is locked for {known}, package.json asks for {range}")),
        None => Some(format!("{name} is not locked")),
    };
    wanted.iter().filter_map(differs).collect()
}

/// Where Prisma's database is.
pub struct Prisma {
    /// Its URL, or the variable that has it.
    pub url: PrismaUrl,
    /// `file:` URLs are relative to this folder.
    pub folder: String,
}

/// Where a URL of Prisma's stands.
pub enum PrismaUrl {
    /// In this variable.
    Variable(String),
    /// In the schema itself.
    Literal(String),
}

/// The value of `key` in a Prisma schema (`url = env("X")`) or in prisma.config.ts (`url: process.env.X`).
fn url_of(text: &str, key: &str) -> Option<PrismaUrl> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with("//"));
    let value = lines.filter_map(|line| line.strip_prefix(key)?.trim_start().strip_prefix(['=', ':'])).next()?.trim_start();
    let name = |rest: &str| rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect::<String>();
    if let Some(rest) = value.strip_prefix("process.env.") {
        return Some(PrismaUrl::Variable(name(rest)));
    }
    let quoted = |text: &str| {
        let quote = text.chars().next().filter(|c| matches!(c, '"' | '\'' | '`'))?;
        text.get(1..)?.split_once(quote).map(|(inner, _)| inner.to_owned())
    };
    match value.strip_prefix("env(").or_else(|| value.strip_prefix("process.env[")) {
        Some(rest) => quoted(rest.trim_start()).map(PrismaUrl::Variable),
        None => quoted(value).map(PrismaUrl::Literal),
    }
}

/// The first quoted text after `key`.
fn quoted_after(text: &str, key: &str) -> Option<String> {
    let rest = text.split_once(key)?.1.trim_start();
    let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\'' | '`'))?;
    rest.get(1..)?.split_once(quote).map(|(inner, _)| inner.to_owned())
}
