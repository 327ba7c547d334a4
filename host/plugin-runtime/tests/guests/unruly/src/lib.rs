//! A strategy that does what `settings.do` says, good or bad.

wit_bindgen::generate!({ path: "../../../../../wit", world: "strategy" });

use exports::havun::backup::guest::*;
use havun::backup::{host, types::Fault};

struct Unruly;
export!(Unruly);

/// The value of `key` in flat JSON of strings.
fn setting<'a>(context: &'a Context, key: &str) -> &'a str {
    let parts: Vec<&str> = context.settings.split('"').collect();
    parts.iter().position(|part| *part == key).and_then(|at| parts.get(at + 2)).copied().unwrap_or("")
}

fn spin() -> ! {
    let mut n = 0_u64;
    loop {
        n = std::hint::black_box(n.wrapping_add(1));
    }
}

#[expect(unconditional_recursion, reason = "that is the deed")]
fn recurse(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 16]);
    recurse(depth + 1) + frame[3]
}

fn item(name: &str) -> Item {
    Item {
        name: name.into(),
        kind: "tree".into(),
        path: String::new(),
        includes: vec![],
        excludes: vec![],
        connection: None,
        exclude_rows: vec![],
        reason: "because".into(),
        ext: vec![],
    }
}

fn plan(items: Vec<Item>, warnings: Vec<String>) -> Result<BackupPlan, Error> {
    Ok(BackupPlan { items, warnings })
}

/// What the world outside looks like.
fn surroundings() -> Vec<String> {
    vec![
        format!("variables {}", std::env::vars().count()),
        format!("arguments {}", std::env::args().count()),
        format!("file {}", std::fs::read("/etc/passwd").is_ok() || std::fs::read("etc/passwd").is_ok()),
        format!("folder {}", std::fs::read_dir("/").is_ok() || std::fs::read_dir(".").is_ok()),
        format!("write {}", std::fs::write("/tmp/x", "x").is_ok()),
        format!("network {}", std::net::TcpStream::connect("127.0.0.1:22").is_ok() || std::net::UdpSocket::bind("127.0.0.1:0").is_ok()),
    ]
}

impl Guest for Unruly {
    fn describe() -> Description {
        Description {
            id: "unruly".into(),
            version: "1.0.0".into(),
            title: "Does \u{1b}[2Jwhat it is told".into(),
            requests: vec![],
            settings_schema: "{\"type\":\"object\"}".into(),
            ext: vec![],
        }
    }

    fn detect(root: Tree) -> Result<Option<Detection>, Error> {
        let Some(stat) = root.stat("marker")? else { return Ok(None) };
        Ok(Some(Detection {
            confidence: 200,
            label: format!("marker of {} bytes", stat.size),
            settings: vec![ProposedSetting { key: "do".into(), value: "\"fine\"".into(), reason: "harmless".into() }],
            notes: vec![],
            ext: vec![],
        }))
    }

    fn plan_backup(context: Context, root: Tree) -> Result<BackupPlan, Error> {
        let path = setting(&context, "path");
        match setting(&context, "do") {
            "fine" => plan(vec![item("files")], vec![format!("run {}", context.run_id)]),
            "loop" => {
                host::log("info", "ready");
                spin()
            }
            "loop-in-host" => loop {
                let _ = root.stat("marker");
            },
            "allocate" => {
                let mut kept: Vec<Vec<u8>> = Vec::new();
                loop {
                    kept.push(vec![1; 1 << 20]);
                }
            }
            "flood" => loop {
                host::log("info", "again");
            },
            "flood-stdout" => loop {
                println!("again and again and again and again");
            },
            "huge-line" => {
                host::log("info", &"x".repeat(10 << 20));
                plan(vec![], vec![])
            }
            "huge-error" => Err(Error::Invalid("x".repeat(20 << 20))),
            "huge-list" => plan(vec![], vec!["warning".into(); 300_000]),
            "many-items" => plan((0..1000).map(|n| item(&format!("item-{n}"))).collect(), vec![]),
            "recurse" => plan(vec![], vec![recurse(0).to_string()]),
            "trap" => core::arch::wasm32::unreachable(),
            "panic" => panic!("deliberate panic"),
            "exit" => std::process::exit(3),
            "sleep" => {
                host::log("info", "ready");
                std::thread::sleep(std::time::Duration::from_secs(3600));
                plan(vec![], vec![])
            }
            "random" => plan(vec![], vec![format!("{:?}", std::collections::HashMap::<u8, u8>::new().is_empty())]),
            "surroundings" => plan(vec![], surroundings()),
            "spoof" => Err(Error::Other(Fault { code: "cancelled".into(), message: "not \u{1b}[31mred\n".into() })),
            "own-code" => Err(Error::Other(Fault { code: "no-composer-json".into(), message: "no composer.json".into() })),
            "denied" => Err(Error::Denied("shell".into())),
            "read" => root.read(path, 1 << 20).and_then(|bytes| plan(vec![], vec![format!("read {} bytes", bytes.len())])),
            "list" => {
                root.list_dir(path).and_then(|found| plan(vec![], found.into_iter().map(|s| format!("{} {}", s.kind, s.path)).collect()))
            }
            "link" => root.read_link(path).and_then(|text| plan(vec![], vec![text])),
            "find" => root
                .find(&[setting(&context, "glob").to_string()], &[], 10_000)
                .and_then(|found| plan(vec![], found.into_iter().map(|s| format!("{} {}", s.kind, s.path)).collect())),
            "keep" => {
                std::mem::forget(root);
                plan(vec![item("files")], vec![])
            }
            other => Err(Error::Invalid(format!("no such deed: {other}"))),
        }
    }

    fn generate(context: Context, item: String, _root: Tree, to: Writer) -> Result<(), Error> {
        match setting(&context, "do") {
            "fine" => {
                to.write(item.as_bytes())?;
                to.write(b" generated")?;
                to.finish()
            }
            "drop" => to.write(b"half"),
            "fail" => {
                to.write(b"half")?;
                Err(Error::NotFound("the other half".into()))
            }
            "endless" => {
                while to.write(&[7; 65536]).is_ok() {}
                to.finish()
            }
            "one-big" => to.write(&vec![0; 3 << 20]),
            "big" => to.write(&vec![0; (1 << 20) + 1]),
            "after-finish" => {
                to.finish()?;
                to.write(b"late")
            }
            "ignore-errors" => {
                let _ = to.write(b"lost");
                to.finish()
            }
            "trap" => {
                to.write(b"half")?;
                to.finish()?;
                core::arch::wasm32::unreachable()
            }
            other => Err(Error::Invalid(format!("no such deed: {other}"))),
        }
    }

    fn plan_restore(context: Context, items: Vec<StoredItem>) -> Result<RestorePlan, Error> {
        let destination = setting(&context, "path");
        let step = |item: &str| RestoreStep { item: item.into(), destination: destination.into(), must_be_empty: false };
        let steps = match setting(&context, "do") {
            "unknown" => vec![step("nobody")],
            _ => items.iter().map(|item| step(&item.name)).collect(),
        };
        Ok(RestorePlan { steps, before: vec![], after: vec!["composer install".into()], warnings: vec![] })
    }

    fn after_restore(context: Context, restored: Target) -> Result<Vec<StepReport>, Error> {
        let path = setting(&context, "path");
        let outcome = match setting(&context, "do") {
            "handles" => {
                let mut trees = Vec::new();
                loop {
                    trees.push(restored.tree());
                }
            }
            "write" => restored.write_file(path, b"written"),
            "dir" => restored.make_dir(path),
            "symlink" => restored.make_symlink(path, setting(&context, "link")),
            "mode" => restored.set_mode(path, 0o4777),
            "odd-outcome" => return Ok(vec![StepReport { title: "x".into(), outcome: "splendid".into(), detail: String::new() }]),
            _ => restored.tree().stat("").map(|_| ()),
        };
        outcome.map(|()| vec![StepReport { title: "deed".into(), outcome: "done".into(), detail: path.into() }])
    }

    fn verify(_context: Context, restored: Tree, databases: Vec<Database>) -> Result<Vec<Check>, Error> {
        let mut checks =
            vec![Check { name: "tree".into(), outcome: "pass".into(), detail: format!("{} entries", restored.list_dir("")?.len()) }];
        for database in databases {
            let tables = database.tables()?;
            let rows = database.count_rows(&tables[0])?;
            let values = database.sample(&tables[0], "name", 4_000_000_000)?;
            let detail = format!("{tables:?} {rows} rows, {} values, first {:?}", values.len(), values.first());
            checks.push(Check { name: database.item(), outcome: "pass".into(), detail });
        }
        Ok(checks)
    }
}
