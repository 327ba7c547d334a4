//! What is refused at the door, and the cache behind it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a failing test may panic")]

mod common;

use common::{UNRULY, bench, component, runtime, tight};
use havun_plugin_runtime::{CompileLimits, Limits, LoadError, Runtime, RuntimeConfig};
use std::{path::PathBuf, time::Duration};

#[track_caller]
fn refused(wasm: &[u8]) -> LoadError {
    let error = bench(tight()).runtime.load(wasm, "guest.wasm").err().expect("refused");
    assert!(error.to_string().contains("guest.wasm"), "{error}");
    error
}

#[test]
fn what_is_no_component_is_refused() {
    let core = wat::parse_str("(module)").unwrap();
    for (wasm, part) in
        [(&core[..], "core module"), (b"(component)", "text"), (b"\0\x01\x02", "bytes"), (b"", "bytes"), (b"\0asm\x07\0\x01\0", "")]
    {
        let error = refused(wasm);
        assert!(matches!(error, LoadError::NotAComponent { .. }) && error.to_string().contains(part), "{error}");
    }
}

#[test]
fn a_truncated_component_is_refused_wherever_it_is_cut() {
    let bench = bench(tight());
    for cut in [9, 100, 5000, UNRULY.len() / 2, UNRULY.len() - 1] {
        let error = bench.runtime.load(&UNRULY[..cut], "cut.wasm").err().expect("refused");
        assert!(matches!(error, LoadError::NotAComponent { .. } | LoadError::NotAStrategy { .. }), "{cut}: {error}");
    }
}

#[test]
fn a_component_that_does_not_validate_is_refused_by_the_compiler() {
    let mut broken = component("", "unreachable");
    let at = broken.windows(2).rposition(|pair| pair == [0x00, 0x0b]).unwrap();
    broken[at] = 0x6a; // i32.add on an empty stack
    assert!(matches!(refused(&broken), LoadError::Compile { .. }));
}

#[test]
fn imports_that_nobody_granted_are_named() {
    let wasm = wat::parse_str(
        r#"(component
            (import "acme:shell/run@1.0.0" (instance))
            (import "wasi:http/types@0.2.0" (instance))
            (import "wasi:cli/environment@0.2.0" (instance)))"#,
    );
    let LoadError::Imports { imports, .. } = refused(&wasm.unwrap()) else { panic!("imports") };
    assert_eq!(imports, ["acme:shell/run@1.0.0", "wasi:http/types@0.2.0"]);
}

#[test]
fn another_version_of_the_contract_is_named_before_anything_is_compiled() {
    let wasm = wat::parse_str(r#"(component (import "havun:backup/host@2.1.0" (instance)))"#).unwrap();
    let error = refused(&wasm);
    assert!(matches!(&error, LoadError::Version { asked, .. } if asked == "2.1.0"), "{error}");
}

#[test]
fn a_component_of_another_kind_is_no_strategy() {
    assert!(matches!(refused(&wat::parse_str("(component)").unwrap()), LoadError::NotAStrategy { .. }));
}

#[test]
fn functions_that_this_version_has_not_are_named() {
    let wasm = wat::parse_str(
        r#"(component
            (import "havun:backup/host@1.4.0" (instance (export "shout" (func))))
            (instance $empty)
            (export "havun:backup/guest@1.4.0" (instance $empty)))"#,
    );
    let error = refused(&wasm.unwrap());
    assert!(matches!(error, LoadError::Interface { .. }) && error.to_string().contains("shout"), "{error}");
}

#[test]
fn a_component_over_the_size_limit_is_refused() {
    let small = bench(Limits { component_bytes: 1000, ..tight() });
    assert!(matches!(small.runtime.load(UNRULY, "big.wasm"), Err(LoadError::TooLarge { limit: 1000, .. })));
}

#[test]
fn a_compiler_under_too_tight_a_limit_takes_nobody_with_it() {
    let limits = CompileLimits { memory_bytes: 24 << 20, ..tight().compile };
    let tight = bench(Limits { compile: limits, ..tight() });
    assert!(matches!(tight.runtime.load(UNRULY, "unruly.wasm"), Err(LoadError::Compile { .. })));
}

#[test]
fn a_compiler_that_hangs_is_ended_and_one_that_is_missing_is_named() {
    let bench = bench(tight());
    let with = |compiler: &str, wall| {
        let limits = Limits { compile: CompileLimits { wall, ..tight().compile }, ..tight() };
        let config = RuntimeConfig { cache_dir: bench.folder.path().join("other"), compiler: PathBuf::from(compiler), limits };
        Runtime::new(config).load(UNRULY, "unruly.wasm").err().expect("refused")
    };
    let script = bench.folder.path().join("hangs");
    std::fs::write(&script, "#!/bin/sh\nexec /bin/sleep 600\n").unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    assert!(matches!(with(script.to_str().unwrap(), Duration::from_millis(200)), LoadError::Compile { .. }));
    let missing = with("/nonexistent/compiler", Duration::from_secs(5));
    assert!(std::error::Error::source(&missing).unwrap().to_string().contains("/nonexistent/compiler"));
}

/// The only file of the cache that is not the key.
fn artefact(cache: &std::path::Path) -> PathBuf {
    let mut files = std::fs::read_dir(cache).unwrap().map(|entry| entry.unwrap().path());
    files.find(|path| path.file_name().unwrap() != "key").unwrap()
}

#[test]
fn a_cached_strategy_is_loaded_without_a_compiler() {
    let bench = bench(tight());
    let first = bench.unruly();
    let cache_dir = bench.folder.path().join("cache");
    let config = RuntimeConfig { cache_dir, compiler: PathBuf::from("/nonexistent"), limits: tight() };
    let again = Runtime::new(config).load(UNRULY, "unruly.wasm").unwrap();
    assert_eq!((again.info(), again.digest()), (first.info(), first.digest()));
    again.plan_backup(&common::told(&[("do", "fine")]), &bench.root()).unwrap();
}

#[test]
fn a_corrupted_cache_file_is_compiled_anew() {
    let bench = bench(tight());
    bench.unruly();
    let cache = bench.folder.path().join("cache");
    let file = artefact(&cache);
    let good = std::fs::read(&file).unwrap();
    for at in [0, 31, 32, 36, 400, 5000, good.len() / 2, good.len() - 1] {
        let mut bad = good.clone();
        bad[at] ^= 0x40;
        std::fs::write(&file, &bad).unwrap();
        let strategy = runtime(&cache, tight()).load(UNRULY, "unruly.wasm").unwrap();
        assert_eq!(strategy.info().id, "unruly", "byte {at}");
        assert_ne!(std::fs::read(&file).unwrap(), bad, "byte {at} is mended");
    }
    for len in [0, 10, 40, good.len() - 7] {
        std::fs::write(&file, &good[..len]).unwrap();
        assert!(runtime(&cache, tight()).load(UNRULY, "unruly.wasm").is_ok(), "{len} bytes");
    }
}

#[test]
fn a_cache_that_cannot_be_used_is_done_without() {
    let bench = bench(tight());
    let strategy = runtime("/dev/null/cache".as_ref(), tight()).load(UNRULY, "unruly.wasm").unwrap();
    strategy.plan_backup(&common::told(&[("do", "fine")]), &bench.root()).unwrap();
}

#[test]
fn the_component_says_what_it_is() {
    let strategy = bench(tight()).unruly();
    let info = strategy.info();
    assert_eq!((info.id.as_str(), info.version.as_str()), ("unruly", "1.0.0"));
    assert_eq!(info.title, "Does \u{fffd}[2Jwhat it is told");
}
