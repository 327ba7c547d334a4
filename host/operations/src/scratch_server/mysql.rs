//! MariaDB and MySQL.

use super::{Family, OsUser, ScratchError, ScratchServer, USER, launch, new_password, socket_path};
use crate::process::{self, find_program};
use havun_model::Cancel;
use std::{
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
};

/// Where distributions put programs that no user calls.
const FOLDERS: [&str; 4] = ["/usr/sbin", "/usr/local/sbin", "/usr/libexec", "/usr/local/mysql/bin"];

/// The programs of one flavour.
struct Programs {
    server: PathBuf,
    /// Only MariaDB has one; MySQL's server makes its own data folder.
    installer: Option<PathBuf>,
}

pub(super) fn start(family: Family, folder: &Path, user: &OsUser, cancel: &Cancel) -> Result<ScratchServer, ScratchError> {
    let programs = find(family)?;
    user.make_folder(folder)?;
    let at = |name: &str| folder.join(name);
    for name in ["data", "tmp"] {
        user.make_folder(&at(name))?;
    }
    let socket = socket_path(at("s"))?;
    install(family, &programs, folder, user, cancel)?;
    let password = new_password()?;
    user.make_file(&at("init.sql"), accounts(&password)?.as_bytes())?;
    let mut command = user.command(&programs.server, folder, "KILL");
    command.args(options(family, folder)).arg(format!("--socket={}", socket.display()));
    let log = at("log");
    let version = version(&programs.server, cancel)?;
    let child = launch::spawn(&mut command, &log)?;
    let mut server = ScratchServer { family, folder: folder.to_owned(), socket, password, version, child };
    // It listens before it has read the accounts, but lets nobody in until it has.
    server.wait_until(&log, cancel, |server| UnixStream::connect(&server.socket).is_ok())?;
    Ok(server)
}

/// MariaDB's server for MariaDB's dumps, MySQL's for MySQL's: neither loads every dump of the other.
fn find(family: Family) -> Result<Programs, ScratchError> {
    let (names, package): (&[&str], _) = match family {
        Family::MariaDb => (&["mariadbd", "mysqld"], "mariadb-server"),
        _ => (&["mysqld"], "mysql-server"),
    };
    let missing = || ScratchError::NotInstalled {
        title: family.title(),
        engine: if family == Family::MariaDb { "mariadb" } else { "mysql" },
        package,
        tried: names.iter().map(|name| (*name).to_owned()).collect(),
    };
    let is_right = |path: &PathBuf| {
        let said = version(path, &Cancel::default()).unwrap_or_default();
        said.contains("MariaDB") == (family == Family::MariaDb)
    };
    let server = names.iter().filter_map(|name| find_program(&[name], &FOLDERS)).find(is_right).ok_or_else(missing)?;
    let installer = match family {
        Family::MariaDb => Some(find_program(&["mariadb-install-db", "mysql_install_db"], &FOLDERS).ok_or_else(missing)?),
        _ => None,
    };
    Ok(Programs { server, installer })
}

fn version(server: &Path, cancel: &Cancel) -> Result<String, ScratchError> {
    let mut command = process::bare_command(&server.to_string_lossy());
    command.args(["--no-defaults", "--version"]);
    let (_, text) = process::capture(&mut command, cancel, 64 * 1024)?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let title = if text.contains("MariaDB") { "MariaDB" } else { "MySQL" };
    Ok(text.split_once("Ver ").map_or_else(|| text.trim().to_owned(), |(_, version)| format!("{title} {}", version.trim())))
}

fn install(family: Family, programs: &Programs, folder: &Path, user: &OsUser, cancel: &Cancel) -> Result<(), ScratchError> {
    let data = format!("--datadir={}", folder.join("data").display());
    let tmp = format!("--tmpdir={}", folder.join("tmp").display());
    let (program, mut command) = match &programs.installer {
        Some(installer) => {
            let mut command = user.command(installer, folder, "KILL");
            command.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"]);
            (installer, command)
        }
        None => {
            let mut command = user.command(&programs.server, folder, "KILL");
            command.args(["--no-defaults", "--initialize-insecure"]);
            (&programs.server, command)
        }
    };
    let (ended, said) = process::capture(command.args([data, tmp]), cancel, 4 << 20)?;
    if ended.status.success() {
        return Ok(());
    }
    let said = format!("{} {}", String::from_utf8_lossy(&said).trim(), ended.complaint);
    let program = program.display().to_string();
    let short: String = said.chars().rev().take(600).collect::<Vec<_>>().into_iter().rev().collect();
    Err(ScratchError::Prepare { title: family.title(), program, status: ended.status_text(), said: short })
}

/// Who may log in: nobody but the user that loads dumps, who owns the scratch databases and has no right beyond them.
/// Neither `FILE` (which writes to the disk) nor `SUPER` nor the right to act for others is among his.
fn accounts(password: &str) -> Result<String, ScratchError> {
    let of_root = new_password()?;
    Ok(format!(
        "ALTER USER root@localhost IDENTIFIED BY '{}';\n\
         CREATE USER {USER}@localhost IDENTIFIED BY '{password}';\n\
         GRANT ALL PRIVILEGES ON `havun\\_drill\\_%`.* TO {USER}@localhost;\n",
        of_root.as_str()
    ))
}

/// Closed to the network and the disk, and careless of a power cut.
fn options(family: Family, folder: &Path) -> Vec<String> {
    let at = |option: &str, name: &str| format!("--{option}={}", folder.join(name).display());
    let mut options: Vec<String> = [
        "--no-defaults",
        "--skip-networking",
        "--skip-log-bin",
        "--local-infile=0",
        "--symbolic-links=0",
        "--max-allowed-packet=1G",
        "--innodb-flush-log-at-trx-commit=0",
        "--innodb-doublewrite=0",
        "--innodb-buffer-pool-size=128M",
        "--lower-case-table-names=0",
        "--default-storage-engine=InnoDB",
    ]
    .map(str::to_owned)
    .to_vec();
    options.extend([at("datadir", "data"), at("tmpdir", "tmp"), at("secure-file-priv", "tmp"), at("pid-file", "pid")]);
    options.push(at("init-file", "init.sql"));
    // Only an administrator could turn it on, and there is none. `DISABLED` would not let events be counted.
    options.push("--event-scheduler=OFF".to_owned());
    options.extend((family == Family::MySql).then(|| "--mysqlx=OFF".to_owned()));
    options
}
