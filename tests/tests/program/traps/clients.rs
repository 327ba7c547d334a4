//! Client programs that are missing, older than the server, or older than the dump.

use super::{Shop, find};
use havun_tests::{Called, MariaDb, PostgreSql};
use std::{fs, process::Command};

#[test]
fn a_mariadb_client_of_an_older_major_version_is_refused_and_an_older_minor_one_is_warned_about() {
    let server = MariaDb::shared();
    server.sql("CREATE DATABASE trap_old; CREATE TABLE trap_old.t(a INT); INSERT INTO trap_old.t VALUES (1)");
    let shop = Shop::mariadb(&server, "trap_old");
    let says = |version: &str| {
        let real = find("mariadb-dump");
        let script = "#!/bin/sh\ncase \"$*\" in *--version*) echo \"mariadb-dump  Ver 10.16 Distrib VERSION-MariaDB, for debian-linux-gnu (x86_64)\"; exit 0 ;; esac\nexec REAL \"$@\"\n";
        shop.install("mariadb-dump", &script.replace("VERSION", version).replace("REAL", &real.to_string_lossy()));
    };
    says("5.5.68");
    let said = shop.failed_dump();
    assert!(
        said.contains("5.5.68-MariaDB")
            && said.contains("is older than the server (10.")
            && said.contains("install the client programs of MariaDB 10"),
        "{said}"
    );
    says("10.1.48");
    let item = shop.run(0);
    assert!(item["database"]["warnings"].to_string().contains("mariadb-dump 10.1 is older than the server (10."), "{item}");
    server.sql("DROP DATABASE trap_old");
}

#[test]
fn no_client_at_all_is_said_with_the_names_that_were_looked_for() {
    let server = MariaDb::shared();
    let shop = Shop::mariadb(&server, "mysql");
    let mut command = shop.command(&["--json", "run"]);
    let report = Called::of(command.env("PATH", shop.at("bin")).output().unwrap()).ended(3).json();
    let problems = report["projects"][0]["items"]["database"]["problems"].to_string();
    assert!(problems.contains("no client for mariadb on this machine") && problems.contains("mariadb, mysql"), "{problems}");
}

/// PostgreSQL's programs are looked for where Debian puts them: another folder is mounted there, for the program alone.
#[test]
fn a_postgresql_client_older_than_the_server_is_refused_with_the_package_to_install() {
    let server = PostgreSql::shared();
    server.sql("postgres", "CREATE DATABASE trap_old_client");
    let parameters = format!(
        "engine = \"postgresql\"\nsocket = \"{}\"\nport = {}\nuser = \"postgres\"\ndatabase = \"trap_old_client\"",
        server.socket().display(),
        server.port()
    );
    let shop = Shop::new(&parameters, "");
    for program in ["pg_dump", "psql"] {
        let script = "#!/bin/sh\ncase \"$*\" in *--version*) echo \"PROGRAM (PostgreSQL) 9.6.24\"; exit 0 ;; esac\nfor real in HERE/real/*/bin/PROGRAM; do :; done\nexec \"$real\" \"$@\"\n";
        let script = script.replace("PROGRAM", program).replace("HERE", &shop.at(""));
        shop.install(&format!("../fake/9.6/bin/{program}"), &script);
    }
    fs::create_dir(shop.machine.at("real")).unwrap();
    let inner = shop.command(&["--json", "run"]);
    let hide = "mount --bind /usr/lib/postgresql real && mount --bind fake /usr/lib/postgresql && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", hide, "sh"]).arg(inner.get_program()).args(inner.get_args()).current_dir(shop.machine.path());
    let report = Called::of(command.output().unwrap()).ended(3).json();
    let problems = report["projects"][0]["items"]["database"]["problems"].to_string();
    assert!(problems.contains("pg_dump (PostgreSQL) 9.6.24 is older than the server (PostgreSQL 1"), "{problems}");
    assert!(problems.contains("install the package postgresql-client-1"), "{problems}");
    assert_eq!(shop.dumps_in_newest(), Vec::<String>::new());
}

/// Both ways in which servers have written the line, loaded by a client that chokes on it and by one that knows it.
#[test]
fn both_forms_of_the_sandbox_line_are_loaded_by_old_and_by_new_clients() {
    let server = MariaDb::shared();
    server.sql("CREATE DATABASE trap_sandbox; CREATE TABLE trap_sandbox.t(a INT); INSERT INTO trap_sandbox.t VALUES (1), (2)");
    let shop = Shop::mariadb(&server, "trap_sandbox");
    for form in ["/*!999999\\\\- enable the sandbox mode */ ", "/*M!999999\\\\- enable the sandbox mode */"] {
        shop.wrap("mariadb-dump", &format!("set -o pipefail\nREAL \"$@\" | sed '1s/.*/{}/'", form.replace('/', "\\/")));
        shop.run(0);
        let dump = String::from_utf8(shop.dump("databases/database.sql")).unwrap();
        assert_eq!(dump.lines().next().unwrap(), form.replace("\\\\", "\\"), "the line is kept in the archive");
        for old in [true, false] {
            if old {
                let real = find("mariadb");
                // As MariaDB 10.11.7: it knows no `--sandbox`, and takes the line for a command.
                let script = "#!/bin/bash\ncase \"$*\" in\n*--version*) echo 'mariadb  Ver 15.1 Distrib 10.11.7-MariaDB, for debian-linux-gnu (x86_64)'; exit 0 ;;\n*--sandbox*) echo \"unknown option '--sandbox'\" >&2; exit 7 ;;\n*--database=*) ;;\n*) exec REAL \"$@\" ;;\nesac\nIFS= read -r line\ncase \"$line\" in *sandbox*) echo \"ERROR at line 1: Unknown command '\\\\-'.\" >&2; exit 1 ;; esac\n{ printf '%s\\n' \"$line\"; exec cat; } | REAL \"$@\"\n";
                shop.install("mariadb", &script.replace("REAL", &real.to_string_lossy()));
            }
            server.sql("DROP DATABASE trap_sandbox");
            shop.call(&["restore", "--project", "shop", "--item", "database", "--yes"]).ended(0);
            assert_eq!(server.sql("SELECT SUM(a) FROM trap_sandbox.t"), "3\n", "{form} old: {old}");
            let _ = fs::remove_file(shop.machine.at("bin/mariadb"));
        }
    }
    server.sql("DROP DATABASE trap_sandbox");
}
