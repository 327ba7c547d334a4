//! Checking a certificate that somebody has: its signature, and a page against the note beside it.

use super::{Certificate, DrillResult, certificate::FORMAT, keep::rendered};
use crate::{
    context::PROGRAM,
    signing::{NoteError, Verifier},
};
use serde::Serialize;
use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

/// The longest certificate that is read.
const LONGEST: u64 = 64 << 20;

/// Why a certificate does not hold.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The system refused it.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The signature.
    #[error("{} does not hold", path.display())]
    Note {
        /// The note.
        path: PathBuf,
        /// Why.
        source: NoteError,
    },
    /// Not a certificate.
    #[error("{} is signed, but is no certificate of a drill", path.display())]
    NoCertificate {
        /// The note.
        path: PathBuf,
    },
    /// A page or JSON form that is not what was signed.
    #[error("{} is not what {} says: it was changed, or belongs to another certificate", path.display(), note.display())]
    Different {
        /// The file.
        path: PathBuf,
        /// The note beside it.
        note: PathBuf,
    },
}

/// What a certificate that holds says. Shape of `havun-backup test --verify FILE --json`.
#[derive(Debug, Clone, Serialize)]
pub struct CertificateCheck {
    /// [`crate::report::SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The file that was asked for.
    pub file: PathBuf,
    /// Name of the key that signed it.
    pub signed_by: String,
    /// What it certifies.
    pub result: DrillResult,
    /// What could not be checked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// All of it.
    pub certificate: Certificate,
}

/// Checks `file`: a note, or a JSON, Markdown or HTML form with its note beside it.
///
/// # Errors
/// [`CheckError`] says what does not hold.
pub fn check_certificate(file: &Path, key: &Verifier) -> Result<CertificateCheck, CheckError> {
    let extension = file.extension().and_then(|text| text.to_str()).unwrap_or_default().to_owned();
    let note_path = match extension.as_str() {
        "json" | "md" | "html" => file.with_extension("note"),
        _ => file.to_owned(),
    };
    let note = read(&note_path)?;
    let text = key.open(&note).map_err(|source| CheckError::Note { path: note_path.clone(), source })?;
    let certificate: Certificate = serde_json::from_str(text)
        .ok()
        .filter(|c: &Certificate| c.format == FORMAT)
        .ok_or_else(|| CheckError::NoCertificate { path: note_path.clone() })?;
    // Pages are made by the program: another version's may look otherwise.
    let same_program = certificate.program == PROGRAM;
    let signature = note.strip_prefix(text).and_then(|rest| rest.strip_prefix('\n')).unwrap_or_default();
    let (markdown, html) = rendered(&certificate, text, signature);
    let expected = match extension.as_str() {
        "json" => Some(text.to_owned()),
        "md" => same_program.then_some(markdown),
        "html" => same_program.then_some(html),
        _ => None,
    };
    if expected.is_some_and(|expected| read(file).map_or(true, |found| found != expected)) {
        return Err(CheckError::Different { path: file.to_owned(), note: note_path });
    }
    let is_page = matches!(extension.as_str(), "md" | "html");
    let notes = (is_page && !same_program).then(|| {
        format!(
            "the page itself was not checked, because {} made it and this is {PROGRAM}: rely on its JSON form and the note",
            certificate.program
        )
    });
    Ok(CertificateCheck {
        schema_version: crate::report::SCHEMA_VERSION,
        file: file.to_owned(),
        signed_by: key.name().to_owned(),
        result: certificate.result,
        notes: notes.into_iter().collect(),
        certificate,
    })
}

fn read(path: &Path) -> Result<String, CheckError> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(LONGEST).read_to_string(&mut text));
    read.map(|_| text).map_err(|source| CheckError::Io { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::{super::certificate::example, *};
    use crate::signing::NoteSigner;

    /// Signs `text` as a drill does, and checks the note.
    fn check(text: &serde_json::Value) -> Result<CertificateCheck, CheckError> {
        let folder = tempfile::tempdir().unwrap();
        let signer = NoteSigner::generate("core/havun-backup").unwrap();
        let path = folder.path().join("c.note");
        std::fs::write(&path, signer.note(&(serde_json::to_string_pretty(text).unwrap() + "\n"))).unwrap();
        check_certificate(&path, signer.verifier())
    }

    #[test]
    fn certificates_of_older_and_newer_programs_are_read() {
        let whole = serde_json::to_value(example()).unwrap();
        assert_eq!(check(&whole).unwrap().certificate, example());
        // An older one: it knew fewer fields.
        let mut old = whole.clone();
        old["files"] = serde_json::json!({ "expected": 3, "found": 3 });
        old["databases"] = serde_json::json!([{ "item": "db", "engine": "redis", "result": "passed" }]);
        for field in ["objectives", "erasures", "accepted", "compliance", "steps", "checks", "notes"] {
            old.as_object_mut().unwrap().remove(field);
        }
        let read = check(&old).unwrap().certificate;
        assert!(read.files.done && read.files.expected == 3, "it had compared them: {read:?}");
        assert_eq!(read.databases.first().map(|d| d.engine.as_str()), Some("redis"));
        // A newer one: it knows more, at every level.
        let mut new = whole;
        for path in ["", "/snapshot", "/strategy", "/files", "/objectives"] {
            new.pointer_mut(path).unwrap()["of_tomorrow"] = serde_json::json!({ "a": [1] });
        }
        new["program"] = "havun-backup 9.0.0".into();
        let read = check(&new).unwrap();
        assert_eq!(read.certificate.snapshot, example().snapshot);
        // What is signed and is something else is no certificate.
        assert!(matches!(check(&serde_json::json!({ "format": "something else" })), Err(CheckError::NoCertificate { .. })));
    }
}
