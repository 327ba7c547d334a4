//! What the tests share: a runtime with a cache of its own, contexts, and guests made from text.
#![allow(dead_code, reason = "each test binary uses a part")]

use havun_model::{Cancel, SilentLog, Strategy, StrategyContext, StrategyError, StrategyLog};
use havun_plugin_runtime::{Budget, Limits, Runtime, RuntimeConfig};
use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

/// The misbehaving guest; its source is `guests/unruly`.
pub const UNRULY: &[u8] = include_bytes!("../guests/unruly.wasm");

/// Limits under which misbehaviour shows soon.
pub fn tight() -> Limits {
    let budget = Budget { cpu: Duration::from_millis(300), wall: Duration::from_secs(20) };
    Limits { describe: budget, plan: budget, work: budget, memory_bytes: 64 << 20, output_bytes: 2 << 20, ..Limits::default() }
}

/// A runtime whose folder vanishes with it.
pub struct Bench {
    pub folder: tempfile::TempDir,
    pub runtime: Runtime,
}

pub fn bench(limits: Limits) -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let runtime = runtime(&folder.path().join("cache"), limits);
    std::fs::create_dir_all(folder.path().join("root")).unwrap();
    std::fs::write(folder.path().join("root/marker"), "here").unwrap();
    Bench { folder, runtime }
}

/// A runtime that compiles with the helper program of this crate.
pub fn runtime(cache_dir: &Path, limits: Limits) -> Runtime {
    let compiler = PathBuf::from(env!("CARGO_BIN_EXE_havun-compile-strategy"));
    Runtime::new(RuntimeConfig { cache_dir: cache_dir.to_owned(), compiler, limits })
}

impl Bench {
    pub fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    pub fn unruly(&self) -> Arc<dyn Strategy> {
        self.runtime.load(UNRULY, "unruly.wasm").unwrap()
    }
}

/// A context whose settings are these pairs.
pub fn told(settings: &[(&str, &str)]) -> StrategyContext {
    let settings: serde_json::Map<String, serde_json::Value> =
        settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).into())).collect();
    StrategyContext {
        run_id: "run-1".to_owned(),
        project: "shop".to_owned(),
        settings: settings.into(),
        connections: Vec::new(),
        granted: Vec::new(),
        cancel: Cancel::default(),
        log: Arc::new(SilentLog),
    }
}

/// Keeps log lines; asks for a stop at the first that says "ready".
#[derive(Default)]
pub struct Ears {
    pub lines: Mutex<Vec<String>>,
    pub cancel: Cancel,
}

impl StrategyLog for Ears {
    fn log(&self, level: &str, message: &str) {
        self.lines.lock().unwrap().push(format!("{level}: {message}"));
        if message == "ready" {
            self.cancel.cancel();
        }
    }

    fn progress(&self, _done: f64, _total: Option<f64>, _note: &str) {}
}

/// The error names the strategy and the call, has this code, and holds nothing that moves a cursor.
#[track_caller]
pub fn assert_error(error: &StrategyError, call: &str, code: &str, part: &str) {
    assert_eq!((error.strategy.as_str(), error.call, error.code.as_str()), ("unruly", call, code), "{error}");
    assert!(error.message.contains(part), "{error}");
    assert!(!error.message.chars().any(char::is_control), "{error:?}");
}

/// Makes a component of a core module in which every export traps but for `describe`, whose body is given.
pub fn component(items: &str, describe: &str) -> Vec<u8> {
    let trap = |name: &str, parameters: usize| {
        let parameters = "i32 ".repeat(parameters);
        format!(r#"(func (export "havun:backup/guest@1.0.0#{name}") (param {parameters}) (result i32) unreachable)"#)
    };
    let rest: String = [("detect", 1), ("plan-backup", 13), ("generate", 16), ("plan-restore", 14), ("after-restore", 13), ("verify", 15)]
        .map(|(name, parameters)| trap(name, parameters))
        .concat();
    let text = format!(
        r#"(module
            (memory (export "memory") 1)
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) unreachable)
            (func (export "havun:backup/guest@1.0.0#describe") (result i32) {describe})
            {rest} {items})"#
    );
    let mut module = wat::parse_str(text).unwrap();
    let mut resolve = wit_parser::Resolve::default();
    let (package, _) = resolve.push_path(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit")).unwrap();
    let world = resolve.select_world(&[package], Some("strategy")).unwrap();
    wit_component::embed_component_metadata(&mut module, &resolve, world, wit_component::StringEncoding::UTF8).unwrap();
    wit_component::ComponentEncoder::default().module(&module).unwrap().validate(true).encode().unwrap()
}
