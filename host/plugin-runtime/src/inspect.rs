//! A look at a component before anything of it is compiled: is it one, what does it import, which version of
//! the contract was it made for. Only the names of the outermost imports and exports are read.

use crate::error::LoadError;
use wasmparser::{Encoding, Parser, Payload};

/// The version of `wit/` that this program offers.
pub const OFFERED: &str = "1.0.0";

/// Our interfaces that a strategy may import.
const OURS: [&str; 5] = ["types", "host", "project", "output", "databases"];
/// Packages of WASI 0.2, linked but empty.
const WASI: [&str; 6] = ["cli", "clocks", "filesystem", "io", "random", "sockets"];

/// Refuses what is not a strategy for this program.
pub fn inspect(wasm: &[u8], name: &str) -> Result<(), LoadError> {
    let names = names(wasm).map_err(|what| LoadError::NotAComponent { name: name.to_owned(), what })?;
    let refused: Vec<String> = names.imports.iter().filter(|import| !is_offered(import)).map(|i| crate::text::line(i, 200)).collect();
    if let Some(asked) = names.imports.iter().chain(&names.exports).find_map(|name| other_version(name)) {
        return Err(LoadError::Version { name: name.to_owned(), asked: crate::text::line(asked, 40), offered: OFFERED });
    }
    if !refused.is_empty() {
        return Err(LoadError::Imports { name: name.to_owned(), imports: refused });
    }
    if !names.exports.iter().any(|export| split(export).0 == "havun:backup/guest") {
        return Err(LoadError::NotAStrategy { name: name.to_owned() });
    }
    Ok(())
}

#[derive(Default)]
struct Names {
    imports: Vec<String>,
    exports: Vec<String>,
}

fn names(wasm: &[u8]) -> Result<Names, String> {
    if !wasm.starts_with(b"\0asm") {
        let is_text = !wasm.is_empty() && !wasm.contains(&0) && std::str::from_utf8(wasm).is_ok();
        return Err(if is_text { "it is text".to_owned() } else { "it does not begin with the bytes of one".to_owned() });
    }
    let mut names = Names::default();
    let mut depth = 0_u32;
    for payload in Parser::new(0).parse_all(wasm) {
        match payload.map_err(|source| source.to_string())? {
            Payload::Version { encoding: Encoding::Module, .. } if depth == 0 => {
                return Err("it is a core module; make a component of it (target wasm32-wasip2)".to_owned());
            }
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    names.imports.push(import.map_err(|source| source.to_string())?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    names.exports.push(export.map_err(|source| source.to_string())?.name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    Ok(names)
}

/// `package:name/interface` and its version.
fn split(name: &str) -> (&str, &str) {
    name.split_once('@').unwrap_or((name, ""))
}

/// The version that a name of ours asks for when this program cannot offer it.
fn other_version(name: &str) -> Option<&str> {
    let (interface, version) = split(name);
    (interface.starts_with("havun:backup/") && version.split('.').next() != Some("1")).then_some(version)
}

fn is_offered(import: &str) -> bool {
    let (interface, version) = split(import);
    if let Some(ours) = interface.strip_prefix("havun:backup/") {
        return OURS.contains(&ours);
    }
    let wasi = interface.strip_prefix("wasi:").and_then(|rest| rest.split_once('/'));
    wasi.is_some_and(|(package, _)| WASI.contains(&package)) && version.starts_with("0.2.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_interfaces_and_wasi_0_2_are_offered() {
        for import in ["havun:backup/host@1.0.0", "havun:backup/project@1.3.0", "wasi:cli/environment@0.2.3", "wasi:io/poll@0.2.0"] {
            assert!(is_offered(import) && other_version(import).is_none(), "{import}");
        }
        for import in ["wasi:http/types@0.2.0", "wasi:cli/environment@0.3.0", "acme:shell/run@1.0.0", "run", "havun:backup/shell@1.0.0"] {
            assert!(!is_offered(import), "{import}");
        }
        assert_eq!(other_version("havun:backup/guest@2.0.0"), Some("2.0.0"));
        assert_eq!(other_version("havun:backup/guest@0.9.0"), Some("0.9.0"));
    }

    #[test]
    fn garbage_is_named() {
        for (bytes, what) in [(&b""[..], "begin"), (b"(component)", "text"), (b"\xff\xff", "begin"), (b"\0asm\x01\0\0\0", "core module")] {
            let error = inspect(bytes, "x").unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        }
        assert!(matches!(inspect(b"\0asm\x0d\0\x01\0", "x"), Err(LoadError::NotAStrategy { .. })));
    }
}
