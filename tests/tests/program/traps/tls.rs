//! TLS to a server: asked for, checked, or refused.

use super::Shop;
use havun_tests::MariaDb;
use std::{path::Path, process::Command};

/// A certificate authority, and a certificate of it for 127.0.0.1.
fn certificates(folder: &Path, name: &str) {
    let script = format!(
        "openssl req -x509 -newkey rsa:2048 -nodes -keyout {name}-ca.key -out {name}-ca.pem -days 30 -subj /CN={name}-authority &&
         openssl req -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.csr -subj /CN=127.0.0.1 &&
         printf 'subjectAltName = DNS:127.0.0.1,IP:127.0.0.1' > {name}.ext &&
         openssl x509 -req -in {name}.csr -CA {name}-ca.pem -CAkey {name}-ca.key -CAcreateserial -out {name}.pem -days 30 -extfile {name}.ext && chmod 644 {name}.key"
    );
    let made = Command::new("sh").args(["-c", &script]).current_dir(folder).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

#[test]
fn mariadb_over_tls_is_required_verified_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path(), "ours");
    certificates(folder.path(), "anothers");
    let at = |file: &str| folder.path().join(file).display().to_string();
    let server = MariaDb::start_with(&[&format!("--ssl-cert={}", at("ours.pem")), &format!("--ssl-key={}", at("ours.key"))]);
    let plain = MariaDb::start_with(&["--skip-ssl"]);
    for server in [&server, &plain] {
        server.sql("CREATE DATABASE shop; CREATE TABLE shop.t(a INT); INSERT INTO shop.t VALUES (1); CREATE USER shop@'%' IDENTIFIED BY 'x'; GRANT ALL ON shop.* TO shop@'%'");
    }
    server.sql("ALTER USER shop@'%' REQUIRE SSL");
    let shop = |server: &MariaDb, tls: &str| {
        let parameters = format!(
            "engine = \"mariadb\"\nhost = \"127.0.0.1\"\nport = {}\nuser = \"shop\"\npassword = {{ file = \"password\" }}\ndatabase = \"shop\"\n{tls}",
            server.port()
        );
        let shop = Shop::new(&parameters, "");
        havun_vault::keys::write_private_file(&shop.machine.at("password"), b"x").unwrap();
        shop
    };
    let verified = |authority: &str| format!("tls = \"verify-identity\"\ntls_ca = \"{}\"", at(authority));
    for tls in ["", "tls = \"preferred\"", "tls = \"required\"", &verified("ours-ca.pem")] {
        shop(&server, tls).run(0);
    }
    // The server takes this user over TLS alone: that it was let in above shows that TLS was there.
    for (on, tls) in [(&server, "tls = \"disabled\""), (&server, verified("anothers-ca.pem").as_str()), (&plain, "tls = \"required\"")] {
        let said = shop(on, tls).failed_dump();
        assert!(said.contains("cannot connect to"), "{tls}: {said}");
    }
    shop(&plain, "").run(0);
}
