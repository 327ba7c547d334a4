//! Archives on other machines: a real `sshd` and a real S3 server, reached, lost, lied to, and restored from.

use havun_tests::{Machine, S3Server, Sshd, tree_difference};
use rusqlite::Connection;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// The configuration of a store `box` on `server`, with further lines.
pub(crate) fn sftp(server: &Sshd, more: &str) -> String {
    format!(
        "[stores.box]\ntier = \"archive\"\nkind = \"sftp\"\nhost = \"127.0.0.1\"\nport = {}\nuser = \"{}\"\npath = \"{}\"\n\
         identity = {{ file = \"{}\" }}\nhost_key = \"{}\"\nbandwidth = \"200 MiB/s\"\n{more}",
        server.port(),
        server.user(),
        server.store().join("vaults").display(),
        server.client_key_file().display(),
        server.host_key().split_whitespace().take(2).collect::<Vec<_>>().join(" "),
    )
}

/// The configuration of a store `bucket`.
pub(crate) fn s3(server: &S3Server, bucket: &str) -> String {
    server.make_bucket(bucket, false);
    format!(
        "[stores.bucket]\ntier = \"archive\"\nkind = \"s3\"\nendpoint = \"{}\"\nbucket = \"{bucket}\"\nprefix = \"havun\"\n\
         access_key_id = {{ file = \"s3-id\" }}\nsecret_access_key = {{ file = \"s3-secret\" }}\n",
        server.endpoint()
    )
}

/// A machine with project `shop`, kept in `stores`; its folders, markers and keys are made.
fn machine(stores: &str, configuration: &str) -> (Machine, PathBuf) {
    let mut machine = Machine::new();
    for (file, text) in [("s3-id", "AKIAEXAMPLE"), ("s3-secret", "secret")] {
        havun_vault::keys::write_private_file(&machine.at(file), text.as_bytes()).unwrap();
    }
    let more = format!("stores = [{stores}]\n[projects.shop.retention]\nhot = \"30d\"\n{configuration}");
    let root = machine.project("shop", "files", &more);
    fs::create_dir(root.join("uploads")).unwrap();
    for number in 0..20_u32 {
        fs::write(root.join(format!("uploads/{number}")), number.to_le_bytes().repeat(3_000 * (number as usize + 1))).unwrap();
    }
    fs::write(root.join("orders.json"), "[1]").unwrap();
    machine.call(&["init"]).ended(0);
    (machine, root)
}

fn store<'a>(report: &'a Value, name: &str) -> &'a Value {
    let stores = report["projects"][0]["stores"].as_array().unwrap();
    stores.iter().find(|store| store["store"] == name).unwrap_or_else(|| panic!("{name}: {report:#}"))
}

/// A host that has nothing but the archive and the escrow key restores `shop` as it was.
fn restores_from(machine: &Machine, root: &Path, store: &str) {
    let _ = fs::remove_dir_all(machine.at("state"));
    let target = machine.at(&format!("from-{store}"));
    machine.call(&["restore", "--project", "shop", "--store", store, "--target", &target.to_string_lossy(), "--yes"]).ended(0);
    assert_eq!(tree_difference(root, &target, &[]), "");
}

/// What was this host's key is lost.
pub(crate) fn use_escrow_key(machine: &Machine) {
    fs::remove_file(machine.at("service.agekey")).unwrap();
    fs::copy(machine.at("escrow.agekey"), machine.at("service.agekey")).unwrap();
}

fn packs(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(packs(&path));
        } else if path.to_string_lossy().contains("/packs/") {
            found.push(path);
        }
    }
    found
}

#[test]
fn every_archive_brings_the_project_back_with_the_escrow_key_alone() {
    let (server, bucket) = (Sshd::start(&[]), S3Server::shared());
    let both = format!("{}\n{}", sftp(&server, ""), s3(&bucket, "round-trip"));
    let (machine, root) = machine("\"local\", \"box\", \"bucket\"", &both);
    let report = machine.json(&["run"]).ended(0).json();
    for name in ["local", "box", "bucket"] {
        assert_eq!(store(&report, name)["state"], "stored", "{report:#}");
    }
    assert!(store(&report, "box")["promises"]["durable_file"].is_boolean(), "{report:#}");
    fs::write(root.join("orders.json"), "[1, 2]").unwrap();
    machine.call(&["run"]).ended(0);
    let quiet = machine.json(&["run"]).ended(0).json();
    assert_eq!(store(&quiet, "box")["listed"], false, "{quiet:#}");
    machine.call(&["health"]).ended(0);
    let status = machine.json(&["status"]).ended(0).json();
    let known = &status["projects"][0]["stores"][1];
    assert_eq!((known["source"].as_str(), known["snapshots"].as_u64()), (Some("known"), Some(3)), "{status:#}");
    assert_eq!(machine.json(&["status", "--online"]).ended(0).json()["projects"][0]["stores"][1]["stored_bytes"], known["stored_bytes"]);
    assert!(machine.call(&["report"]).ended(0).stdout.contains("Storage of"));
    fs::remove_dir_all(machine.at("local")).unwrap();
    use_escrow_key(&machine);
    restores_from(&machine, &root, "box");
    restores_from(&machine, &root, "bucket");
}

#[test]
fn an_archive_that_is_away_is_caught_up_later_and_delays_no_other() {
    let (mut server, bucket) = (Sshd::start(&[]), S3Server::shared());
    let both = format!("{}\n{}", sftp(&server, ""), s3(&bucket, "catches-up"));
    let (machine, root) = machine("\"local\", \"box\", \"bucket\"", &both);
    machine.call(&["run"]).ended(0);
    server.kill();
    fs::write(root.join("orders.json"), "[1, 2]").unwrap();
    let report = machine.json(&["run"]).ended(3).json();
    assert_eq!(report["projects"][0]["outcome"], "partial");
    assert_eq!((&store(&report, "box")["state"], &store(&report, "bucket")["state"]), (&"failed".into(), &"stored".into()));
    assert_eq!(store(&report, "box")["failure"]["exit_status"], 10, "{report:#}");
    assert!(store(&report, "box")["pending_objects"].as_u64().unwrap() > 0, "{report:#}");
    let sick = machine.json(&["health"]).ended(4).json();
    let row = &sick["projects"][0]["stores"][1]["queue"];
    assert_eq!((row["store"].as_str(), row["attempts"].as_u64()), (Some("box"), Some(1)), "{sick:#}");
    assert!(machine.call(&["health"]).ended(4).stdout.contains("archive push --store box"));
    machine.call(&["archive", "push", "--store", "box"]).ended(10);
    server.start_again();
    // Nothing is due, and the pause is not over; then it is.
    assert!(machine.json(&["run", "--due"]).ended(0).json().get("retried").is_none());
    let audit = Connection::open(machine.at("state/audit.db")).unwrap();
    assert_eq!(audit.execute("UPDATE replication_queue SET next_try = '2001-01-01T00:00:00.000000Z'", []), Ok(1));
    let retried = machine.json(&["run", "--due"]).ended(0).json();
    assert_eq!((&retried["retried"][0]["store"], &retried["retried"][0]["state"]), (&"box".into(), &"stored".into()), "{retried:#}");
    assert!(retried["retried"][0]["objects_copied"].as_u64() > Some(0), "{retried:#}");
    assert_eq!(audit.query_row("SELECT count(*) FROM replication_queue", [], |row| row.get::<_, i64>(0)), Ok(0));
    machine.call(&["health"]).ended(0);
    assert!(machine.call(&["logs"]).ended(0).stdout.contains("replicate"));
    fs::remove_dir_all(machine.at("local")).unwrap();
    use_escrow_key(&machine);
    restores_from(&machine, &root, "box");
}

/// Every file beneath a folder, with the SHA-256 of its bytes.
fn sums(folder: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sums(&path));
        } else {
            found.insert(path.clone(), hex::encode(Sha256::digest(fs::read(&path).unwrap())));
        }
    }
    found
}

/// Bytes that do not compress.
fn noise(len: usize) -> Vec<u8> {
    (0_u64..).flat_map(|n| <[u8; 32]>::from(Sha256::digest(n.to_le_bytes()))).take(len).collect()
}

#[test]
fn an_archive_that_is_full_half_way_keeps_what_it_has_and_is_filled_once_there_is_space() {
    let server = Sshd::start_on_a_disk_of("40m", &[]);
    let (machine, root) = machine("\"local\", \"box\"", &sftp(&server, ""));
    machine.call(&["run"]).ended(0);
    let vault = server.inside(&server.store().join("vaults/shop"));
    let ballast = server.inside(&server.store().join("ballast"));
    fs::write(&ballast, vec![1; 24 << 20]).unwrap();
    let before = sums(&vault);
    fs::write(root.join("film.mp4"), noise(20 << 20)).unwrap();
    let report = machine.json(&["run"]).ended(3).json();
    assert_eq!(report["projects"][0]["outcome"], "partial", "{report:#}");
    assert_eq!((&store(&report, "local")["state"], &store(&report, "box")["state"]), (&"stored".into(), &"failed".into()), "{report:#}");
    let failure = store(&report, "box")["failure"].to_string();
    assert!(failure.contains("the store is full (") && failure.contains("MiB free"), "{failure}");
    assert_eq!(store(&report, "box")["failure"]["exit_status"], 10, "{report:#}");
    let alerts = machine.call(&["logs", "--alerts"]).ended(0);
    assert!(alerts.stdout.contains("the store is full"), "{alerts:?}");
    let after = sums(&vault);
    assert!(before.iter().all(|(path, sum)| after.get(path) == Some(sum)), "nothing is deleted or changed");
    for (path, sum) in after.iter().filter(|(path, _)| path.to_string_lossy().contains("/packs/")) {
        assert_eq!(path.file_name().unwrap().to_string_lossy(), *sum, "nothing short has a name");
    }
    fs::remove_file(ballast).unwrap();
    let next = machine.json(&["run"]).ended(0).json();
    assert_eq!((&store(&next, "box")["state"], &store(&next, "box")["pending_objects"]), (&"stored".into(), &0.into()), "{next:#}");
    fs::remove_dir_all(machine.at("local")).unwrap();
    use_escrow_key(&machine);
    restores_from(&machine, &root, "box");
}

#[test]
fn a_changed_host_key_is_a_hard_stop() {
    let mut server = Sshd::start(&[]);
    let (machine, _) = machine("\"local\", \"box\"", &sftp(&server, ""));
    server.kill();
    server.change_host_key();
    server.start_again();
    let report = machine.json(&["run"]).ended(3).json();
    let failure = store(&report, "box")["failure"].to_string();
    assert!(failure.contains("host key") && failure.contains("\"exit_status\":10"), "{report:#}");
    machine.call(&["archive", "push"]).ended(10);
    assert!(!server.store().join("vaults/shop").exists());
    let check = machine.call(&["config", "--check", "--online"]).ended(10);
    assert!(check.text().contains("host key"), "{check:?}");
}

#[test]
fn what_was_deleted_behind_the_programs_back_is_told_and_sent_again() {
    let server = Sshd::start(&[]);
    let (machine, root) = machine("\"local\", \"box\"", &sftp(&server, ""));
    machine.call(&["run"]).ended(0);
    machine.call(&["run"]).ended(0);
    machine.call(&["health"]).ended(0);
    let vault = server.store().join("vaults/shop");
    let lost = packs(&vault).remove(0);
    fs::remove_file(&lost).unwrap();
    let sick = machine.call(&["health"]).ended(4);
    assert!(sick.stdout.contains(&*lost.file_name().unwrap().to_string_lossy()), "{sick:?}");
    machine.call(&["archive", "push", "--full"]).ended(0);
    machine.call(&["health"]).ended(0);
    fs::remove_dir_all(machine.at("local")).unwrap();
    use_escrow_key(&machine);
    restores_from(&machine, &root, "box");
}

#[test]
fn a_project_without_a_store_of_its_own_machine_goes_by_the_spool() {
    let (mut server, bucket) = (Sshd::start(&[]), S3Server::shared());
    let both = format!("{}\n{}", sftp(&server, ""), s3(&bucket, "by-the-spool"));
    let (machine, root) = machine("\"box\", \"bucket\"", &both);
    machine.call(&["run"]).ended(0);
    server.kill();
    fs::write(root.join("orders.json"), "[1, 2]").unwrap();
    machine.call(&["run"]).ended(3);
    let spooled = |count: usize| {
        let list = machine.json(&["list", "--store", "spool"]).ended(0).json();
        assert_eq!(list["projects"][0]["stores"][0]["snapshots"].as_array().unwrap().len(), count, "{list:#}");
    };
    spooled(2);
    server.start_again();
    machine.call(&["archive", "push"]).ended(0);
    spooled(1);
    fs::remove_dir_all(machine.at("state/spool-vaults")).unwrap();
    let refilled = machine.json(&["run"]).ended(0).json();
    assert!(refilled["projects"][0]["warnings"].to_string().contains("filled from"), "{refilled:#}");
    let list = machine.json(&["list", "--store", "bucket"]).ended(0).json();
    assert_eq!(list["projects"][0]["stores"][0]["snapshots"].as_array().unwrap().len(), 3, "one history: {list:#}");
    use_escrow_key(&machine);
    restores_from(&machine, &root, "bucket");
}

#[test]
fn a_lost_vault_is_never_begun_anew_while_its_archive_is_away() {
    let mut server = Sshd::start(&[]);
    let (machine, _) = machine("\"local\", \"box\"", &sftp(&server, ""));
    machine.call(&["run"]).ended(0);
    fs::remove_dir_all(machine.at("local/shop")).unwrap();
    server.kill();
    let called = machine.call(&["run"]).ended(10);
    assert!(called.text().contains("there was one"), "{called:?}");
    assert!(!machine.at("local/shop/vault.json").exists());
    server.start_again();
    machine.call(&["run"]).ended(0);
    let list = machine.json(&["list", "--store", "local"]).ended(0).json();
    assert_eq!(list["projects"][0]["stores"][0]["snapshots"].as_array().unwrap().len(), 2, "{list:#}");
}

#[test]
fn a_locked_bucket_keeps_what_it_has_and_a_check_says_so() {
    let bucket = S3Server::shared();
    bucket.make_bucket("locked-up", true);
    let store = format!(
        "[stores.bucket]\ntier = \"archive\"\nkind = \"s3\"\nendpoint = \"{}\"\nbucket = \"locked-up\"\n\
         access_key_id = {{ file = \"s3-id\" }}\nsecret_access_key = {{ file = \"s3-secret\" }}\nobject_lock = \"governance\"\n",
        bucket.endpoint()
    );
    let (machine, root) = machine("\"local\", \"bucket\"", &store);
    machine.call(&["run"]).ended(0);
    machine.call(&["run"]).ended(0);
    machine.call(&["health"]).ended(0);
    let checked = machine.json(&["store", "check", "bucket", "--measure", "1"]).ended(0).json();
    let delete = checked["enforcement"].as_array().unwrap().iter().find(|a| a["attempt"] == "delete").unwrap();
    assert_eq!((&checked["passed"], &delete["outcome"]), (&true.into(), &"enforced".into()), "{checked:#}");
    assert!(!checked["leftovers"].as_array().unwrap().is_empty(), "{checked:#}");
    use_escrow_key(&machine);
    restores_from(&machine, &root, "bucket");
}

#[test]
fn a_check_tries_a_store_and_leaves_nothing_behind() {
    let mut server = Sshd::start(&[]);
    let (machine, _) = machine("\"local\", \"box\"", &sftp(&server, ""));
    for name in ["local", "box"] {
        let checked = machine.json(&["store", "check", name, "--measure", "1"]).ended(0).json();
        assert_eq!((&checked["passed"], &checked["level"]), (&true.into(), &"by convention".into()), "{checked:#}");
        assert!(checked["leftovers"].as_array().unwrap().is_empty() && checked["measured"].is_object(), "{checked:#}");
    }
    assert!(machine.call(&["store", "list"]).ended(0).stdout.contains("sftp://"));
    machine.call(&["store", "check", "bax"]).ended(2);
    server.kill();
    machine.call(&["store", "check", "box"]).ended(10);
}

/// Objects of a vault in a folder whose path has this part, by name.
fn objects(vault: &Path, part: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(vault.join("epochs"))
        .unwrap()
        .flat_map(|epoch| fs::read_dir(epoch.unwrap().path().join(part)).unwrap())
        .map(|entry| entry.unwrap().path())
        .collect();
    found.sort_by_key(|path| path.file_name().unwrap().to_owned());
    found
}

#[test]
fn what_an_archive_lost_for_good_is_unhealthy_until_a_person_has_dealt_with_it() {
    let mut machine = Machine::new();
    let root = machine.project("shop", "files", "[projects.shop.retention]\nhot = \"1d\"\narchive = \"7y\"\n");
    fs::write(root.join("a"), "1").unwrap();
    machine.call(&["run"]).ended(0);
    fs::write(root.join("a"), "2").unwrap();
    machine.call(&["run"]).ended(0);
    machine.call(&["health"]).ended(0);
    let gone = objects(&machine.at("archive/shop"), "snapshots").remove(0);
    for store in ["local", "archive"] {
        let object = objects(&machine.at(store).join("shop"), "snapshots").remove(0);
        fs::rename(object, machine.at("kept-by-somebody")).unwrap();
    }
    machine.call(&["archive", "push", "--full"]).ended(5);
    for _ in 0..2 {
        machine.call(&["archive", "push"]).ended(0);
        let sick = machine.call(&["health"]).ended(4);
        assert!(sick.text().contains("are lost from it since") && sick.text().contains("accept-loss"), "{sick:?}");
    }
    machine.call(&["archive", "accept-loss", "--project", "shop", "--store", "local", "--reason", "the same disks"]).ended(0);
    fs::rename(machine.at("kept-by-somebody"), &gone).unwrap();
    machine.call(&["health"]).ended(0);
    fs::remove_file(&gone).unwrap();
    let expiry = machine.call(&["archive", "expire", "--dry-run"]).ended(0);
    assert!(expiry.text().contains("were lost from it"), "{expiry:?}");
    machine.call(&["archive", "accept-loss", "--project", "shop", "--store", "archive", "--reason", " "]).ended(2);
    let accepted = machine.json(&["archive", "accept-loss", "--project", "shop", "--store", "archive", "--reason", "two disks died"]);
    assert_eq!(accepted.ended(0).json()["objects"].as_object().unwrap().len(), 1);
    let well = machine.call(&["health", "-v"]).ended(0);
    assert!(well.text().contains("a person has accepted that"), "{well:?}");
    assert!(machine.call(&["logs"]).ended(0).text().contains("accept-loss"));
    machine.call(&["archive", "accept-loss", "--project", "shop", "--store", "archive", "--reason", "again"]).ended(1);
}
