//! Which databases: what `config/database.php` and `.env` say, as references that the host follows by itself.

use crate::{
    php::{self, Value},
    settings::LaravelSettings,
};
use havun_backup_sdk::{
    dotenv::{Syntax, laravel},
    prelude::*,
    project_files::{composer_locked, item_name, sqlite_files, sqlite_raw_files},
};

/// Tables whose rows are worthless after a restore. `failed_jobs` is kept: it is what a person still has to look at.
const WITHOUT_ROWS: [&str; 7] = ["cache", "cache_locks", "sessions", "jobs", "job_batches", "telescope_*", "pulse_*"];

/// What Laravel itself has where the application's file says nothing.
const FRAMEWORK: &str = "return ['default' => env('DB_CONNECTION', 'sqlite'), 'connections' => [
    'sqlite' => ['driver' => 'sqlite', 'url' => env('DB_URL'), 'database' => env('DB_DATABASE', database_path('database.sqlite'))],
    'mysql' => ['driver' => 'mysql', 'url' => env('DB_URL', env('DATABASE_URL')), 'host' => env('DB_HOST', '127.0.0.1'), 'port' => env('DB_PORT', '3306'),
        'database' => env('DB_DATABASE', 'laravel'), 'username' => env('DB_USERNAME', 'root'), 'password' => env('DB_PASSWORD', ''),
        'unix_socket' => env('DB_SOCKET', ''), 'charset' => env('DB_CHARSET', 'utf8mb4')],
    'mariadb' => ['driver' => 'mariadb', 'url' => env('DB_URL', env('DATABASE_URL')), 'host' => env('DB_HOST', '127.0.0.1'), 'port' => env('DB_PORT', '3306'),
        'database' => env('DB_DATABASE', 'laravel'), 'username' => env('DB_USERNAME', 'root'), 'password' => env('DB_PASSWORD', ''),
        'unix_socket' => env('DB_SOCKET', ''), 'charset' => env('DB_CHARSET', 'utf8mb4')],
    'pgsql' => ['driver' => 'pgsql', 'url' => env('DB_URL', env('DATABASE_URL')), 'host' => env('DB_HOST', '127.0.0.1'), 'port' => env('DB_PORT', '5432'),
        'database' => env('DB_DATABASE', 'laravel'), 'username' => env('DB_USERNAME', 'root'), 'password' => env('DB_PASSWORD', ''),
        'charset' => env('DB_CHARSET', 'utf8')],
    'sqlsrv' => ['driver' => 'sqlsrv', 'url' => env('DB_URL'), 'host' => env('DB_HOST', 'localhost'), 'port' => env('DB_PORT', '1433'),
        'database' => env('DB_DATABASE', 'laravel'), 'username' => env('DB_USERNAME', 'root'), 'password' => env('DB_PASSWORD', '')],
]];";

/// Parameters by Laravel's name and by the plan's.
const PARAMETERS: [(&str, &str); 8] = [
    ("url", "url"),
    ("host", "host"),
    ("port", "port"),
    ("unix_socket", "socket"),
    ("username", "user"),
    ("password", "password"),
    ("database", "database"),
    ("charset", "charset"),
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
    /// Paths of SQLite files that are dumped, relative to the root.
    pub sqlite: Vec<String>,
}

/// What the application's files say of databases.
pub struct Application<'r> {
    root: &'r dyn Tree,
    env_file: String,
    entries: Vec<(String, String)>,
    /// Why the dotenv file cannot be used, when it cannot.
    pub env_fault: Option<String>,
    config: Value,
    framework: Value,
}

impl<'r> Application<'r> {
    /// Reads the dotenv file and `config/database.php`, as far as they can be read.
    pub fn read(root: &'r dyn Tree, env_file: &str) -> Self {
        let (entries, env_fault) = match root.read_text(env_file) {
            Err(Error::NotFound(_)) => (Vec::new(), Some(format!("there is no {env_file}"))),
            Err(_) => (Vec::new(), Some(format!("{env_file} cannot be read from within the root"))),
            Ok(text) => match havun_backup_sdk::dotenv::parse(&text, Syntax::Phpdotenv) {
                Ok(entries) => (entries, None),
                Err(error) => (Vec::new(), Some(format!("{env_file}, {error}: Laravel would refuse it as well"))),
            },
        };
        let config = root.text("config/database.php").map_or(Value::Null, |text| php::parse(&text));
        Self { root, env_file: env_file.to_owned(), entries, env_fault, config, framework: php::parse(FRAMEWORK) }
    }

    /// The dotenv file is there and says nothing: unreadable, or refused by its syntax.
    fn is_env_unusable(&self) -> bool {
        self.env_fault.is_some() && self.root.exists(&self.env_file)
    }

    /// A variable's text after `env()`.
    pub fn env(&self, name: &str) -> Option<String> {
        laravel::env(&self.entries, name)?.text().map(str::to_owned)
    }

    /// The table that Laravel keeps its migrations in.
    pub fn migrations_table(&self) -> String {
        let configured = self.config.get("migrations");
        let named = configured.and_then(|value| self.plain(value).or_else(|| self.plain(value.get("table")?)));
        named.unwrap_or_else(|| "migrations".to_owned())
    }

    /// The connection that the application uses.
    pub fn default_connection(&self) -> String {
        let old = composer_locked(self.root, "laravel/framework")
            .and_then(|v| v.split('.').next()?.parse::<u32>().ok())
            .is_some_and(|major| major < 11);
        let configured = self.config.get("default").and_then(|value| self.plain(value));
        configured.or_else(|| self.env("DB_CONNECTION")).unwrap_or_else(|| if old { "mysql" } else { "sqlite" }.to_owned())
    }

    fn plain(&self, value: &Value) -> Option<String> {
        match value {
            Value::Text(text) | Value::Path(text) => Some(text.clone()),
            Value::Env(name, default) => match laravel::env(&self.entries, name) {
                Some(cast) => cast.text().map(str::to_owned),
                None => self.plain(default),
            },
            _ => None,
        }
    }

    /// The configuration of a connection, the application's own before the framework's.
    fn connection(&self, name: &str) -> Option<&Value> {
        let own = self.config.get("connections").and_then(|connections| connections.get(name));
        own.or_else(|| self.framework.get("connections").and_then(|connections| connections.get(name)))
    }

    /// The engine of a connection, by the plan's word.
    pub fn engine(&self, name: &str) -> String {
        let driver = self.connection(name).and_then(|config| config.get("driver")).and_then(|driver| self.plain(driver));
        match driver.as_deref().unwrap_or(name) {
            "pgsql" => "postgresql".to_owned(),
            "sqlsrv" => "sqlserver".to_owned(),
            driver => driver.to_owned(),
        }
    }

    /// Adds one parameter: a reference where a variable says it, the literal where the configuration does.
    fn add(&self, connection: Connection, parameter: &str, value: &Value, odd: &mut Vec<String>) -> Connection {
        match value {
            Value::Text(text) | Value::Path(text) if !text.is_empty() => connection.literal(parameter, text),
            Value::Env(name, default) => match laravel::env(&self.entries, name) {
                Some(laravel::EnvValue::Null) => connection,
                Some(_) => connection.variable(parameter, &self.env_file, Syntax::Phpdotenv, name),
                None => self.add(connection, parameter, default, odd),
            },
            Value::Other | Value::Array(_) => {
                odd.push(parameter.to_owned());
                connection
            }
            _ => connection,
        }
    }
}

/// The databases to back up.
pub fn databases(cx: &Context<LaravelSettings>, app: &Application<'_>) -> Result<Databases> {
    let mut found = Databases::default();
    let names = wanted(cx, app)?;
    for name in &names {
        let listed = cx.connections.iter().find(|connection| connection.name == *name);
        let item = if name == "main" { "database".to_owned() } else { item_name("database", name) };
        let key = if name == "main" { app.default_connection() } else { name.clone() };
        let connection = match (app.connection(&key), listed) {
            _ if name == "main" && app.is_env_unusable() => unusable(app, listed),
            (Some(config), _) => from_config(app, name, &key, config, &mut found),
            (None, Some(listed)) => Connection::new(name, &listed.engine),
            (None, None) => {
                found.warnings.push(format!("connection `{key}` is not in config/database.php as an array that can be read; list it under [projects.NAME.databases.{name}]"));
                Connection::new(name, "")
            }
        };
        let reason =
            if name == "main" { format!("the application's database (connection `{key}`)") } else { format!("the database `{name}`") };
        found.items.push(Item::database(&item, connection).without_rows(&without_rows(&cx.settings)).because(reason));
    }
    other_sqlite_files(app.root, &cx.settings.exclude, &mut found)?;
    Ok(found)
}

/// The default of a file that cannot be read may be another database than the application's: only the operator can
/// say which it is, or the item must fail.
fn unusable(app: &Application<'_>, listed: Option<&ConnectionInfo>) -> Connection {
    match listed {
        Some(listed) => Connection::new("main", &listed.engine),
        None => Connection::new("main", "").variable("database", &app.env_file, Syntax::Phpdotenv, "DB_DATABASE"),
    }
}

fn without_rows(settings: &LaravelSettings) -> Vec<&str> {
    let kept = |table: &&str| !settings.tables_with_rows.iter().any(|name| name == table);
    WITHOUT_ROWS.into_iter().chain(settings.tables_without_rows.iter().map(String::as_str)).filter(kept).collect()
}

/// Names of connections: the setting's, or `main` and all that the operator listed.
fn wanted(cx: &Context<LaravelSettings>, app: &Application<'_>) -> Result<Vec<String>> {
    let listed = || cx.connections.iter().map(|connection| connection.name.clone());
    let Some(names) = &cx.settings.connections else {
        let has_main = app.env_fault.is_none() || app.is_env_unusable() || sqlite_default(app);
        let main = (has_main || listed().any(|name| name == "main")).then(|| "main".to_owned());
        return Ok(main.into_iter().chain(listed().filter(|name| name != "main")).collect());
    };
    match names.iter().find(|name| *name != "main" && app.connection(name).is_none() && !listed().any(|known| known == **name)) {
        Some(unknown) => Err(Error::Invalid(format!(
            "setting `connections`: `{unknown}` is neither in config/database.php nor listed under [projects.NAME.databases]"
        ))),
        None => Ok(names.clone()),
    }
}

fn sqlite_default(app: &Application<'_>) -> bool {
    app.default_connection() == "sqlite" && app.root.is_file("database/database.sqlite")
}

fn from_config(app: &Application<'_>, name: &str, key: &str, config: &Value, found: &mut Databases) -> Connection {
    let engine = app.engine(key);
    if engine == "sqlite" || url_of(app, config).is_some_and(|url| url.starts_with("sqlite")) {
        return sqlite(app, name, config, found);
    }
    let mut odd = Vec::new();
    let mut connection = Connection::new(name, &engine);
    for (laravel, parameter) in PARAMETERS {
        if let Some(value) = config.get(laravel) {
            connection = app.add(connection, parameter, value, &mut odd);
        }
    }
    if ["read", "write"].iter().any(|key| config.get(key).is_some()) {
        odd.push("read/write hosts".to_owned());
    }
    if !odd.is_empty() {
        let odd = odd.join(", ");
        found
            .warnings
            .push(format!("connection `{key}`: {odd} cannot be read without running PHP; say it under [projects.NAME.databases.{name}]"));
    }
    connection
}

fn url_of(app: &Application<'_>, config: &Value) -> Option<String> {
    app.plain(config.get("url")?).filter(|url| !url.is_empty())
}

/// A SQLite database: its path relative to the root where it lies beneath it, else the variable that names it.
fn sqlite(app: &Application<'_>, name: &str, config: &Value, found: &mut Databases) -> Connection {
    let url = url_of(app, config);
    let path = match &url {
        Some(url) => url.split_once(":///").map(|(_, path)| path.split('?').next().unwrap_or(path).to_owned()),
        None => config.get("database").and_then(|value| app.plain(value)),
    };
    let path = path.filter(|path| !path.is_empty()).unwrap_or_else(|| "database/database.sqlite".to_owned());
    let connection = Connection::new(name, "sqlite");
    let Some(relative) = beneath_root(app.root, &path) else {
        found
            .warnings
            .push(format!("{path} is not beneath the root: restoring brings it back to that place, not into the restored folder"));
        let mut odd = Vec::new();
        return match (&url, config.get("url"), config.get("database")) {
            (Some(_), Some(value), _) => app.add(connection, "url", value, &mut odd),
            (_, _, Some(value)) => app.add(connection, "path", value, &mut odd),
            _ => connection.literal("path", path),
        };
    };
    if !app.root.exists(&relative) {
        found.warnings.push(format!("the SQLite database {relative} does not exist"));
    }
    found.raw_files.extend(sqlite_raw_files(&relative));
    found.sqlite.push(relative.clone());
    connection.literal("path", relative)
}

/// A configured path as one relative to the root. An absolute one is recognised by its end, as the strategy is not
/// told where the root lies.
fn beneath_root(root: &dyn Tree, path: &str) -> Option<String> {
    if !path.starts_with('/') {
        let path = path.trim_start_matches("./");
        let climbs = path.split('/').any(|part| part == "..");
        return if climbs {
            path.strip_prefix("../").filter(|rest| !rest.contains("..") && root.exists(rest)).map(str::to_owned)
        } else {
            Some(path.to_owned())
        };
    }
    let ends = path.match_indices('/').filter_map(|(at, _)| path.get(at + 1..));
    let mut ends = ends.filter(|end| end.contains('/'));
    ends.find(|end| root.is_file(end)).map(str::to_owned)
}

/// Every other SQLite file of the project is a database of its own: a copy of it while it is in use would be torn.
/// What users upload is left to the files, unless a log beside it shows that it is in use.
fn other_sqlite_files(root: &dyn Tree, exclude: &[String], found: &mut Databases) -> Result<()> {
    let own = ["vendor", "node_modules", ".git", "storage/framework"];
    let skip: Vec<&str> = own.into_iter().chain(exclude.iter().map(String::as_str)).collect();
    for path in sqlite_files(root, &skip, &["storage", "public"])? {
        if found.sqlite.contains(&path) {
            continue;
        }
        let name = item_name("sqlite", &path.replace('/', "-"));
        if found.items.iter().any(|item| item.name == name) {
            continue;
        }
        let connection = Connection::new(&name, "sqlite").literal("path", path.clone());
        found.items.push(Item::database(&name, connection).because(format!("{path} is a SQLite database")));
        found.raw_files.extend(sqlite_raw_files(&path));
        found.sqlite.push(path);
    }
    Ok(())
}
