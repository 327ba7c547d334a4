//! Which databases: the one that the dotenv files or Prisma name, what the operator listed, and every SQLite file.

use crate::{
    files::UPLOADS,
    project::{Prisma, PrismaUrl, Project},
    settings::NodeSettings,
};
use havun_backup_sdk::{
    dotenv::Syntax,
    prelude::*,
    project_files::{item_name, sqlite_files, sqlite_raw_files},
};

/// Variables that hold a database's URL, by custom.
const URLS: [&str; 9] =
    ["DATABASE_URL", "DB_URL", "POSTGRES_URL", "MYSQL_URL", "MARIADB_URL", "MONGODB_URI", "MONGODB_URL", "MONGO_URL", "MONGO_URI"];

/// Parameters and the variables that hold them, by custom.
const PARTS: [(&str, &[&str]); 6] = [
    ("host", &["DB_HOST", "MYSQL_HOST", "MARIADB_HOST", "PGHOST"]),
    ("port", &["DB_PORT", "MYSQL_PORT", "MARIADB_PORT", "PGPORT"]),
    ("socket", &["DB_SOCKET"]),
    ("user", &["DB_USER", "DB_USERNAME", "MYSQL_USER", "MARIADB_USER", "PGUSER"]),
    ("password", &["DB_PASSWORD", "DB_PASS", "MYSQL_PASSWORD", "MARIADB_PASSWORD", "PGPASSWORD"]),
    ("database", &["DB_NAME", "DB_DATABASE", "MYSQL_DATABASE", "MARIADB_DATABASE", "PGDATABASE"]),
];

/// The databases of a plan.
#[derive(Default)]
pub struct Databases {
    /// One each.
    pub items: Vec<Item>,
    /// Globs of raw database files that no tree item may take.
    pub raw_files: Vec<String>,
    /// For the operator.
    pub warnings: Vec<String>,
    sqlite: Vec<String>,
}

impl Databases {
    fn sqlite_file(&mut self, item: &str, connection: &str, path: String, reason: String) {
        if self.sqlite.contains(&path) || self.items.iter().any(|known| known.name == item) {
            return;
        }
        let connection = Connection::new(connection, "sqlite").literal("path", path.clone());
        self.items.push(Item::database(item, connection).because(reason));
        self.raw_files.extend(sqlite_raw_files(&path));
        self.sqlite.push(path);
    }
}

/// The databases to back up.
pub fn databases(cx: &Context<NodeSettings>, project: &Project<'_>) -> Result<Databases> {
    let mut found = Databases::default();
    let wants = |name: &str| cx.settings.databases.as_ref().is_none_or(|names| names.iter().any(|wanted| wanted == name));
    let listed = |name: &str| cx.connections.iter().find(|connection| connection.name == name);
    if let Some(unknown) = cx.settings.databases.iter().flatten().find(|name| *name != "main" && listed(name).is_none()) {
        return Err(Error::Invalid(format!("setting `databases`: `{unknown}` is not listed under [projects.NAME.databases]")));
    }
    if wants("main") {
        main_database(project, listed("main"), &mut found);
    }
    for connection in cx.connections.iter().filter(|connection| connection.name != "main" && wants(&connection.name)) {
        let reason = format!("the listed database `{}`", connection.name);
        let item = Item::database(&item_name("database", &connection.name), Connection::new(&connection.name, &connection.engine));
        found.items.push(item.because(reason));
    }
    other_sqlite_files(project.root, &cx.settings, &mut found)?;
    if project.env("REDIS_URL").is_some() {
        found.warnings.push(
            "REDIS_URL is set: what Redis holds is not part of this backup; list it under [projects.NAME.databases] if it matters"
                .to_owned(),
        );
    }
    Ok(found)
}

fn main_database(project: &Project<'_>, listed: Option<&ConnectionInfo>, found: &mut Databases) {
    let prisma = project.prisma();
    let folder = prisma.as_ref().map_or(String::new(), |prisma| prisma.folder.clone());
    if let Some(Prisma { url: PrismaUrl::Literal(url), .. }) = &prisma {
        return match url.strip_prefix("file:") {
            Some(file) => sqlite_url(project, file, &folder, None, found),
            None => found
                .warnings
                .push("the Prisma schema holds a database URL itself; list the database under [projects.NAME.databases.main]".to_owned()),
        };
    }
    let prisma_variable = prisma.and_then(|prisma| if let PrismaUrl::Variable(name) = prisma.url { Some(name) } else { None });
    let names: Vec<&str> = prisma_variable.as_deref().into_iter().chain(URLS).collect();
    let url = names.iter().find_map(|name| project.env(name).map(|(file, value)| (*name, file, value)));
    match url {
        Some((name, file, value)) => from_url(project, name, file, value, &folder, found),
        None => from_parts(project, listed, found),
    }
    if let Some(name) = prisma_variable.filter(|name| project.env(name).is_none() && listed.is_none()) {
        found.warnings.push(format!(
            "Prisma reads its database's URL from {name}, which no dotenv file sets; list the database under [projects.NAME.databases.main]"
        ));
    }
}

fn from_url(project: &Project<'_>, name: &str, file: &str, value: &str, folder: &str, found: &mut Databases) {
    let path = value.strip_prefix("file:").or_else(|| value.strip_prefix("sqlite:"));
    if let Some(path) = path {
        return sqlite_url(project, path, folder, Some((name, file)), found);
    }
    if !value.contains("://") {
        let plain = value.trim_start_matches("./");
        return match project.root.is_file(plain) {
            true => found.sqlite_file("database", "main", plain.to_owned(), format!("{name} in {file} names it")),
            false => found
                .warnings
                .push(format!("{name} in {file} is no URL of a database and no file; list the database under [projects.NAME.databases]")),
        };
    }
    if value.contains("${") {
        found.warnings.push(format!("{name} in {file} refers to other variables, which only dotenv-expand follows; list the database under [projects.NAME.databases.main]"));
    }
    let connection = Connection::new("main", "").variable("url", file, Syntax::Dotenv, name);
    found.items.push(Item::database("database", connection).because(format!("{name} in {file} names it")));
}

/// `file:…` or `sqlite:…`: relative to the schema's folder, or to the root.
fn sqlite_url(project: &Project<'_>, path: &str, folder: &str, variable: Option<(&str, &str)>, found: &mut Databases) {
    let path = path.split('?').next().unwrap_or(path);
    let path = path.strip_prefix("//").unwrap_or(path);
    let reason = variable.map_or("the Prisma schema names it".to_owned(), |(name, file)| format!("{name} in {file} names it"));
    let candidates: Vec<String> = match path.strip_prefix('/') {
        // The strategy is not told where the root lies: an absolute path is recognised by its end.
        Some(_) => {
            path.match_indices('/').filter_map(|(at, _)| path.get(at + 1..)).filter(|end| end.contains('/')).map(str::to_owned).collect()
        }
        None => [join(folder, path), join("", path), join("prisma", path)].into_iter().flatten().collect(),
    };
    match candidates.iter().find(|candidate| project.root.is_file(candidate)) {
        Some(file) => found.sqlite_file("database", "main", file.clone(), reason),
        None => {
            found.warnings.push(format!("{reason}: {path}, which is not beneath the root or does not exist"));
            let connection = Connection::new("main", "sqlite");
            let connection = match variable {
                Some((name, file)) => connection.variable("url", file, Syntax::Dotenv, name),
                None => connection.literal("path", path),
            };
            found.items.push(Item::database("database", connection).because(reason));
        }
    }
}

/// `folder/path` without `.` and `..`; `None` when it leads out of the root.
fn join(folder: &str, path: &str) -> Option<String> {
    let mut parts = Vec::new();
    for part in folder.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// `DB_HOST`, `DB_NAME` and their like; or only what the operator listed.
fn from_parts(project: &Project<'_>, listed: Option<&ConnectionInfo>, found: &mut Databases) {
    let mut connection = Connection::new("main", &engine(project, listed));
    for (parameter, names) in PARTS {
        if let Some((name, (file, _))) = names.iter().find_map(|name| Some((name, project.env(name)?))) {
            connection = connection.variable(parameter, file, Syntax::Dotenv, name);
        }
    }
    let named = connection.parameters.iter().any(|parameter| parameter.name == "database");
    let sqlite = connection.engine == "sqlite";
    if (named && !connection.engine.is_empty() && !sqlite) || listed.is_some() {
        found.items.push(Item::database("database", connection).because("the dotenv file names it"));
    } else if named && !sqlite {
        found
            .warnings
            .push("the dotenv file names a database but not of which kind; list it under [projects.NAME.databases.main]".to_owned());
    }
}

fn engine(project: &Project<'_>, listed: Option<&ConnectionInfo>) -> String {
    if let Some(listed) = listed.filter(|listed| !listed.engine.is_empty()) {
        return listed.engine.clone();
    }
    let said = ["DB_DIALECT", "DB_CLIENT", "DB_CONNECTION", "DB_TYPE", "DB_DRIVER"].iter().find_map(|name| project.env(name));
    let word = match said {
        Some((_, word)) => word.to_ascii_lowercase(),
        None => ["mariadb", "mysql2", "mysql", "pg"]
            .iter()
            .find(|name| project.depends_on(name))
            .map_or(String::new(), |name| (*name).to_owned()),
    };
    match word.as_str() {
        "mysql" | "mysql2" => "mysql",
        "mariadb" => "mariadb",
        "pg" | "postgres" | "postgresql" => "postgresql",
        "sqlite" | "sqlite3" | "better-sqlite3" => "sqlite",
        _ => "",
    }
    .to_owned()
}

/// Every other SQLite file is a database of its own: a copy of it while it is in use would be torn. What users
/// upload is left to the files, unless a log beside it shows that it is in use.
fn other_sqlite_files(root: &dyn Tree, settings: &NodeSettings, found: &mut Databases) -> Result<()> {
    let skip: Vec<&str> =
        ["**/node_modules", ".git", ".next", ".nuxt"].into_iter().chain(settings.exclude.iter().map(String::as_str)).collect();
    let uploads: Vec<&str> = UPLOADS.into_iter().chain(settings.uploads.iter().map(String::as_str)).collect();
    for path in sqlite_files(root, &skip, &uploads)? {
        let name = item_name("sqlite", &path.replace('/', "-"));
        found.sqlite_file(&name, &name, path.clone(), format!("{path} is a SQLite database"));
    }
    Ok(())
}
