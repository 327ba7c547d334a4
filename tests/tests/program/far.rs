//! A Laravel application with a real MariaDB, kept on other machines and brought back from each of them.

use crate::{
    archive::{s3, sftp, use_escrow_key},
    laravel::{application_at, fill, state},
};
use havun_tests::{Machine, MariaDb, S3Server, Sshd, copy_tree, tree_difference};
use std::fs;

#[test]
fn a_laravel_application_comes_back_from_each_archive_with_the_escrow_key_alone() {
    let (mut machine, database) = (Machine::new(), MariaDb::start());
    let (server, bucket) = (Sshd::start(&[]), S3Server::shared());
    for (file, text) in [("s3-id", "AKIAEXAMPLE"), ("s3-secret", "secret")] {
        havun_vault::keys::write_private_file(&machine.at(file), text.as_bytes()).unwrap();
    }
    let more = format!("stores = [\"local\", \"box\", \"bucket\"]\n{}\n{}", sftp(&server, ""), s3(&bucket, "laravel"));
    let root = machine.project("shop", "laravel", &more);
    fill(&database);
    application_at(&root, &database);
    machine.call(&["init"]).ended(0);
    let (before, rows) = (machine.at("before"), state(&database));
    copy_tree(&root, &before);
    let report = machine.json(&["run"]).ended(0).json();
    assert_eq!(report["projects"][0]["items"]["database"]["outcome"], "ok", "{report:#}");
    fs::remove_dir_all(machine.at("local")).unwrap();
    use_escrow_key(&machine);
    for store in ["box", "bucket"] {
        fs::remove_dir_all(machine.at("state")).unwrap();
        fs::remove_dir_all(&root).unwrap();
        database.sql("DROP DATABASE shop");
        machine.call(&["restore", "--project", "shop", "--store", store, "--yes"]).ended(0);
        assert_eq!(tree_difference(&before, &root, &[]), "", "{store}");
        assert_eq!(state(&database), rows, "{store}");
    }
}
