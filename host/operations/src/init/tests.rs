//! Names, texts and files of `init`; what needs strategies is tested with the whole program.

use super::*;
use crate::config::Config;
use std::{fs, os::unix::fs::PermissionsExt, path::Path};

fn kit() -> EscrowKit {
    EscrowKit::new("host\n1", jiff::Timestamp::UNIX_EPOCH)
}

#[test]
fn an_escrow_kit_is_a_key_file_with_a_note() {
    let kit = kit();
    let identities = havun_vault::keys::Identity::parse_all(kit.text()).unwrap();
    assert_eq!(identities.first().unwrap().recipient().to_string(), kit.recipient());
}

#[test]
fn only_who_has_the_kit_can_prove_it() {
    let kit = kit();
    let last = kit.text().trim_end();
    let last = &last[last.len() - kit.proof_length()..];
    assert!(kit.is_proved_by(last));
    assert!(kit.is_proved_by(&format!(" {} ", last.to_lowercase())));
    for wrong in ["", "yes", &last[1..], &last[..7]] {
        assert!(!kit.is_proved_by(wrong), "{wrong}");
    }
}

#[test]
fn a_kit_is_written_once_and_for_its_owner_only() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kit");
    kit().write(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(kit().write(&path).is_err());
    fs::create_dir(dir.path().join(".git")).unwrap();
    assert!(kit().write(&dir.path().join("other")).is_err());
}

#[test]
fn the_escrow_joins_an_existing_configuration_and_nothing_else_moves() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.toml");
    let recipient = kit().recipient().to_owned();
    for (before, after) in [
        ("# mine\n[host] # here\nname = \"x\"\n", "# mine\n[host] # here\nname = \"x\"\n\n[keys]\nescrow = [\"R\"]\n"),
        ("[keys]\nidentity = { env = \"K\" } # k\n\n[host]\n", "[keys]\nidentity = { env = \"K\" } # k\nescrow = [\"R\"]\n\n[host]\n"),
        ("keys.identity = { env = \"K\" }\n", "keys.identity = { env = \"K\" }\nkeys.escrow = [\"R\"]\n"),
    ] {
        fs::write(&path, before).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        set_escrow(&path, std::slice::from_ref(&recipient)).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap().replace(&recipient, "R"), after);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(Config::load(&path).unwrap().keys.escrow, [recipient.as_str()]);
    }
}

#[test]
fn what_would_be_no_configuration_is_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.toml");
    assert!(matches!(write_new(&path, "[hots]\n"), Err(InitError::Proposal(_))));
    assert!(!path.exists());
    write_new(&path, "[host]\n").unwrap();
    assert!(matches!(append(&path, "[host]\n"), Err(InitError::Proposal(_))));
    assert!(matches!(write_new(&path, "[host]\n"), Err(InitError::Write { .. })));
    assert_eq!(fs::read_to_string(&path).unwrap(), "[host]\n");
    append(&path, "[keys]\n").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "[host]\n\n[keys]\n");
}

#[test]
fn a_new_configuration_is_private() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("etc/c.toml");
    write_new(&path, "").unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
}
