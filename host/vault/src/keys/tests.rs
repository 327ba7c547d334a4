use super::*;
use crate::seal::{SALT_BYTES, Sealer};
use proptest::prelude::*;
use std::{fs, os::unix::fs::PermissionsExt as _, process::Command};

fn key() -> SealKey {
    SealKey::from_bytes(std::array::from_fn(|i| i as u8))
}

fn key_file(folder: &Path, mode: u32) -> PathBuf {
    let path = folder.join("service.agekey");
    fs::write(&path, Identity::generate().file_text("for a test").as_bytes()).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}

fn why_unsafe(path: &Path) -> String {
    match Identity::read_file(path) {
        Err(KeyError::Unsafe { why, .. }) => why,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("taken"),
    }
}

#[test]
fn a_wrapped_key_opens_for_each_recipient_and_for_nobody_else() {
    let (service, escrow, stranger) = (Identity::generate(), Identity::generate(), Identity::generate());
    let wrapped = wrap(&key(), &[service.recipient(), escrow.recipient()]).unwrap();
    for identity in [&service, &escrow] {
        let opened = unwrap(&wrapped, std::slice::from_ref(identity)).unwrap();
        assert_eq!(opened.expose(), key().expose());
    }
    let both = unwrap(&wrapped, &[stranger.clone(), escrow]).unwrap();
    assert_eq!(KeyId::of(&both), KeyId::of(&key()));
    assert!(matches!(unwrap(&wrapped, &[stranger]), Err(KeyError::WrongKey)));
    assert!(matches!(unwrap(&wrapped, &[]), Err(KeyError::WrongKey)));
    assert!(matches!(wrap(&key(), &[]), Err(KeyError::NoRecipient)));
}

#[test]
fn a_damaged_wrap_is_refused() {
    let service = Identity::generate();
    let wrapped = wrap(&key(), &[service.recipient()]).unwrap();
    let identities = [service];
    for at in 0..wrapped.len() {
        let mut changed = wrapped.clone();
        changed[at] ^= 1;
        assert!(unwrap(&changed, &identities).is_err(), "byte {at}");
        assert!(unwrap(&wrapped[..at], &identities).is_err(), "cut to {at}");
    }
    let longer = [wrapped.as_slice(), b"x"].concat();
    assert!(unwrap(&longer, &identities).is_err());
}

#[test]
fn an_age_file_of_another_length_is_no_vault_key() {
    let service = Identity::generate();
    for len in [0, 31, 33] {
        let file = age::encrypt(&service.0.to_public(), &vec![7; len]).unwrap();
        assert!(matches!(unwrap(&file, std::slice::from_ref(&service)), Err(KeyError::NotWrapped { .. })), "{len} bytes");
    }
}

/// The `age` of Debian opens what we wrote, with the identity file as we write it.
#[test]
fn the_age_program_opens_it() {
    let folder = tempfile::tempdir().unwrap();
    let identity = Identity::generate();
    let (file, secret) = (folder.path().join("key.age"), folder.path().join("id"));
    fs::write(&file, wrap(&key(), &[Identity::generate().recipient(), identity.recipient()]).unwrap()).unwrap();
    fs::write(&secret, identity.file_text("escrow").as_bytes()).unwrap();
    let out = Command::new("age").arg("-d").arg("-i").arg(&secret).arg(&file).output().expect("`age` is installed");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(out.stdout, key().expose());
}

/// As Python says: `hashlib.sha256(b"havun-backup/v1/kid" + key).hexdigest()[:16]`.
#[test]
fn golden_key_id() {
    assert_eq!(KeyId::of(&key()).to_string(), "e5dd281567ecf31d");
}

#[test]
fn the_header_finds_its_key() {
    let ring = KeyRing::default();
    let other = SealKey::from_bytes([9; 32]);
    ring.add(Arc::new(other.clone()));
    ring.add(Arc::new(key()));
    ring.add(Arc::new(key()));
    assert_eq!(ring.ids().len(), 2);
    let header = Sealer::new(&key(), "c", [1; SALT_BYTES]).header();
    assert_eq!(ring.find_by_header("c", &header).map(|key| KeyId::of(&key)), Some(KeyId::of(&key())));
    assert!(ring.find_by_header("d", &header).is_none());
    assert!(ring.opener("c", &Sealer::new(&SealKey::from_bytes([1; 32]), "c", [1; SALT_BYTES]).header()).is_none());
}

#[test]
fn key_files_are_unwrapped_when_an_object_needs_their_key() {
    let (identity, stranger) = (Identity::generate(), Identity::generate());
    let key_of = |n| SealKey::from_bytes([n; 32]);
    let file = |n, of: &Identity| wrap(&key_of(n), &[of.recipient(), Identity::generate().recipient()]).unwrap();
    let files = vec![file(1, &identity), file(2, &identity), file(3, &stranger), b"damaged".to_vec(), file(4, &identity)];
    let ring = KeyRing::of_files(files, std::slice::from_ref(&identity));
    let header = |n| Sealer::new(&key_of(n), "c", [1; SALT_BYTES]).header();
    let open = || ring.read().open.len();

    assert!(!ring.is_empty());
    assert_eq!(open(), 1, "the first that opens is proof enough");
    assert!(ring.opener("c", &header(4)).is_some());
    assert_eq!(open(), 1);
    assert!(ring.opener("c", &header(2)).is_some());
    assert_eq!(open(), 2, "what nobody can open is passed over");
    assert!(ring.opener("c", &header(3)).is_none());
    assert_eq!(ring.ids().len(), 3);
    assert!(ring.opener("c", &header(1)).is_some());
    assert!(KeyRing::of_files(vec![file(3, &stranger)], &[identity]).is_empty());
}

#[test]
fn a_key_file_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (Identity::generate(), Identity::generate());
    let text = format!("{}\n\n# second\n  {}\r\n", *one.file_text("a\nb"), *two.secret_text());
    let path = folder.path().join("id");
    write_private_file(&path, text.as_bytes()).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let read: Vec<_> = Identity::read_file(&path).unwrap().iter().map(Identity::recipient).collect();
    assert_eq!(read, [one.recipient(), two.recipient()]);
    assert!(matches!(write_private_file(&path, b"x"), Err(KeyError::Io { .. })), "never replaced");
}

#[test]
fn key_files_that_others_could_use_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for mode in [0o640, 0o604, 0o660, 0o777, 0o601] {
        assert!(why_unsafe(&key_file(folder.path(), mode)).contains("others can use it"), "{mode:o}");
    }
    let path = key_file(folder.path(), 0o400);
    assert!(Identity::read_file(&path).is_ok());
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert!(why_unsafe(&link).contains("symbolic link"));
    assert!(why_unsafe(folder.path()).contains("regular file"));
}

#[test]
fn a_fifo_does_not_block() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    assert!(why_unsafe(&path).contains("regular file"));
}

#[test]
fn a_key_file_beneath_a_repository_or_an_open_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let deep = folder.path().join("a/b");
    fs::create_dir_all(&deep).unwrap();
    let path = key_file(&deep, 0o600);
    fs::set_permissions(folder.path().join("a"), fs::Permissions::from_mode(0o777)).unwrap();
    assert!(why_unsafe(&path).contains("anyone may write"));
    fs::set_permissions(folder.path().join("a"), fs::Permissions::from_mode(0o755)).unwrap();
    assert!(Identity::read_file(&path).is_ok());
    fs::create_dir(folder.path().join(".git")).unwrap();
    assert!(why_unsafe(&path).contains("Git repository"));
    assert!(matches!(write_private_file(&deep.join("new"), b"x"), Err(KeyError::Unsafe { .. })));
    assert!(!deep.join("new").exists());
}

#[test]
fn a_bad_line_is_named_and_not_shown() {
    let text = "# comment\nAGE-SECRET-KEY-1NONSENSE\n";
    let error = Identity::parse_all(text).err().unwrap();
    assert!(matches!(error, KeyError::Identity { line: 2, .. }));
    assert!(!error.to_string().contains("NONSENSE"));
    assert!(matches!(Identity::parse_all("# nothing\n"), Err(KeyError::Empty)));
}

#[test]
fn recipients_are_parsed_and_printed() {
    let recipient = Identity::generate().recipient();
    assert_eq!(recipient.to_string().parse::<Recipient>().unwrap(), recipient);
    for text in ["", "age1", "ssh-ed25519 AAAA", "age1zzzz"] {
        assert!(matches!(text.parse::<Recipient>(), Err(KeyError::Recipient { .. })), "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_are_no_wrapped_key(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut framed = b"age-encryption.org/v1\n-> X25519 ".to_vec();
        framed.extend(&bytes);
        prop_assert!(unwrap(&bytes, &[]).is_err());
        prop_assert!(unwrap(&framed, &[Identity::generate()]).is_err());
    }
}
