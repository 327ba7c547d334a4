use super::*;
use proptest::{collection as some, option, prelude::*};

fn line(entry: &Entry) -> Vec<u8> {
    let mut out = Vec::new();
    entry.to_line(&mut out);
    out
}

#[test]
fn a_line_has_the_documented_keys_in_their_order() {
    let entry = Entry {
        path: b"tree/caf\xe9/\"a\\b\n".to_vec(),
        item: "uploads".to_owned(),
        size: 10,
        mode: 0o4755,
        uid: 33,
        gid: 33,
        user: "www-data".to_owned(),
        group: "www-data".to_owned(),
        mtime: Time { secs: -1, nanos: 5 },
        link_group: Some(b"tree/a".to_vec()),
        xattrs: BTreeMap::from([(b"user.k".to_vec(), b"v".to_vec())]),
        sparse: Some(vec![(4, 2)]),
        chunks: vec![ChunkId::from_bytes([1; 32]), ChunkId::from_bytes([2; 32])],
        sha256: Some(Digest::from_bytes([3; 32])),
        torn: true,
        ..Entry::default()
    };
    let expected = format!(
        "{{\"path\":\"tree/caf\\\\xe9/\\\"a\\\\\\\\b\\u000a\",\"type\":\"file\",\"item\":\"uploads\",\"size\":10,\"mode\":\"4755\",\"uid\":33,\"gid\":33,\
         \"user\":\"www-data\",\"group\":\"www-data\",\"mtime\":[-1,5],\"link_group\":\"tree/a\",\"xattrs\":{{\"user.k\":\"dg==\"}},\
         \"sparse\":[[4,2]],\"chunks\":[\"{}\",\"{}\"],\"sha256\":\"{}\",\"torn\":true}}\n",
        "01".repeat(32),
        "02".repeat(32),
        "03".repeat(32)
    );
    assert_eq!(String::from_utf8(line(&entry)).unwrap(), expected);
    assert_eq!(Entry::from_line(expected.as_bytes()).unwrap(), entry);
    assert_eq!(entry.stored_size(), 2);
}

#[test]
fn defaults_are_left_out() {
    let entry = Entry { path: b"a".to_vec(), kind: EntryKind::Dir, mode: 0o755, ..Entry::default() };
    assert_eq!(line(&entry), b"{\"path\":\"a\",\"type\":\"dir\",\"mode\":\"0755\",\"uid\":0,\"gid\":0,\"mtime\":[0,0]}\n");
}

#[test]
fn hostile_lines_are_refused() {
    let with = |key: &str, value: &str| {
        let mut object = serde_json::json!({"path":"a","type":"file","size":9,"mode":"0644","uid":0,"gid":0,"mtime":[0,0]});
        object[key] = serde_json::from_str(value).unwrap();
        Entry::from_line(object.to_string().as_bytes())
    };
    assert!(with("later", "[1]").is_ok(), "unknown keys are ignored");
    for (key, value) in [
        ("path", r#""../a""#),
        ("path", r#""/etc/passwd""#),
        ("path", r#""a\\x2f..\\x2fb""#),
        ("path", r#""a\\x00b""#),
        ("path", r#""a\\q""#),
        ("link_group", r#""a/../../b""#),
        ("target", r#""""#),
        ("mode", r#""10000""#),
        ("mode", r#""8""#),
        ("mtime", "[0,1000000000]"),
        ("mtime", "[9223372036854775808,0]"),
        ("sparse", "[[0,10]]"),
        ("sparse", "[[4,2],[5,1]]"),
        ("sparse", "[[18446744073709551615,2]]"),
        ("xattrs", r#"{"a":"*"}"#),
        ("xattrs", r#"{"":"" }"#),
        ("chunks", r#"["00"]"#),
        ("type", r#""door""#),
        ("uid", "-1"),
    ] {
        assert!(with(key, value).is_err(), "{key}: {value}");
    }
}

fn bytes(len: usize) -> impl Strategy<Value = Vec<u8>> {
    some::vec(prop_oneof![4 => 0x20u8..0x7f, 1 => 1u8..=255], 1..len)
}

fn a_path() -> impl Strategy<Value = Vec<u8>> {
    some::vec(bytes(12), 1..4).prop_map(|parts| parts.join(&b'/')).prop_filter("a path", |p| check_path(p).is_ok())
}

fn an_entry() -> impl Strategy<Value = Entry> {
    let owner = ("[a-z]{0,6}", any::<u32>(), any::<u32>(), 0u32..0o10000, any::<String>(), any::<String>());
    let times = (any::<i64>(), 0u32..1_000_000_000);
    let rare = (
        option::of(bytes(20)),
        option::of(any::<(u32, u32)>()),
        option::of(a_path()),
        some::btree_map(bytes(9), some::vec(any::<u8>(), 0..40), 0..3),
    );
    let content = (some::vec(any::<[u8; 32]>(), 0..3), option::of(any::<[u8; 32]>()), any::<bool>(), any::<bool>());
    (a_path(), owner, times, rare, content, any::<u32>()).prop_map(|(path, owner, (secs, nanos), rare, content, size)| Entry {
        path,
        kind: EntryKind::File,
        item: owner.0,
        size: u64::from(size),
        mode: owner.3,
        uid: owner.1,
        gid: owner.2,
        user: owner.4,
        group: owner.5,
        mtime: Time { secs, nanos },
        target: rare.0,
        rdev: rare.1,
        link_group: rare.2,
        xattrs: rare.3,
        sparse: content.3.then(|| vec![(0, u64::from(size) / 3), (u64::from(size) / 2, 0)]),
        chunks: content.0.into_iter().map(ChunkId::from_bytes).collect(),
        sha256: content.1.map(Digest::from_bytes),
        torn: content.2,
    })
}

proptest! {
    #[test]
    fn an_entry_survives_its_line(entry in an_entry()) {
        let line = line(&entry);
        prop_assert_eq!(line.iter().filter(|b| **b == b'\n').count(), 1);
        prop_assert_eq!(Entry::from_line(&line).unwrap(), entry);
    }

    #[test]
    fn parsing_never_panics(entry in an_entry(), at in any::<prop::sample::Index>(), byte in any::<u8>(), noise in some::vec(any::<u8>(), 0..80)) {
        let _either = Entry::from_line(&noise);
        let mut line = line(&entry);
        let at = at.index(line.len());
        line[at] = byte;
        let _either = Entry::from_line(&line);
        line.truncate(at);
        let _either = Entry::from_line(&line);
    }
}
