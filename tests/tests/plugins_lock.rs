//! The components in `plugins/wasm` are those of the sources beside them: `plugins/wasm/plugins.lock` says of which
//! sources they were built, and this test computes it anew, without a wasm target.
//! (`plugins/build.sh --check` goes further: it builds them in another folder and compares the bytes.)
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test stops at the first surprise")]

use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

const HINT: &str = "run plugins/build.sh and commit plugins/wasm";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Regular files beneath `folder`, relative to the root, that end in `end`.
fn files(folder: &str, end: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder)).expect("a folder of the repository") {
            let entry = entry.expect("readable");
            let path = format!("{folder}/{}", entry.file_name().to_str().expect("a plain name"));
            match entry.file_type().expect("known") {
                kind if kind.is_dir() => folders.push(path),
                kind if kind.is_file() && path.ends_with(end) => found.push(path),
                _ => {}
            }
        }
    }
    found
}

/// As `source_digest` in `plugins/build.sh`.
fn source_digest(strategy: &str) -> String {
    let single = ["rust-toolchain.toml", "sdk/Cargo.toml", "sdk/dotenv/Cargo.toml", "plugins/Cargo.toml", "plugins/Cargo.lock"];
    let mut paths: Vec<String> = single.iter().map(|path| (*path).to_owned()).collect();
    paths.push(format!("plugins/{strategy}/Cargo.toml"));
    paths.extend(files("wit", ".wit"));
    paths.extend(files("sdk/src", ".rs"));
    paths.extend(files("sdk/dotenv/src", ".rs"));
    paths.extend(files(&format!("plugins/{strategy}/src"), ""));
    paths.sort();
    let line = |path: &String| format!("{}  {path}\n", sha256(&fs::read(root().join(path)).expect("readable")));
    sha256(paths.iter().map(line).collect::<String>().as_bytes())
}

/// Id, sources, component.
fn lock() -> BTreeMap<String, (String, String)> {
    let text = fs::read_to_string(root().join("plugins/wasm/plugins.lock")).expect("plugins.lock");
    let entry = |line: &str| match line.split(' ').collect::<Vec<_>>().as_slice() {
        [id, "sources", sources, "wasm", wasm] => ((*id).to_owned(), ((*sources).to_owned(), (*wasm).to_owned())),
        _ => panic!("plugins.lock has an odd line: {line}"),
    };
    text.lines().map(entry).collect()
}

#[test]
fn every_component_is_of_the_sources_beside_it() {
    for (id, (sources, wasm)) in lock() {
        assert_eq!(sources, source_digest(&id), "the sources of `{id}` have changed since its component was built: {HINT}");
        let component = fs::read(root().join(format!("plugins/wasm/{id}.wasm"))).expect("the component");
        assert_eq!(wasm, sha256(&component), "plugins/wasm/{id}.wasm is not the one that plugins.lock names: {HINT}");
    }
}

#[test]
fn every_strategy_has_a_component_and_every_component_a_strategy() {
    let locked: Vec<String> = lock().into_keys().collect();
    let mut components = files("plugins/wasm", ".wasm");
    components.sort();
    let mut expected: Vec<String> = locked.iter().map(|id| format!("plugins/wasm/{id}.wasm")).collect();
    expected.sort();
    assert_eq!(components, expected, "{HINT}");
    for id in &locked {
        assert!(root().join(format!("plugins/{id}/README.md")).is_file(), "plugins/{id} has no README.md");
    }
}
