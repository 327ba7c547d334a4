//! The host's signing key, and C2SP *signed notes* made with it (<https://c2sp.org/signed-note>).
//!
//! A note is a text that ends with a line break, an empty line, and one signature line for each signer:
//! `— <name> <base64 of 4 bytes of key hash and 64 bytes of Ed25519 signature>`. The signature is over the text and
//! nothing else, so that plain tools check it too. A verifier key reads `<name>+<key hash>+<base64 of 1 and the key>`.
//!
//! The secret never leaves this host and opens nothing: whoever has it can forge certificates, not read backups.

use crate::{context::Context, error::OperationError};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use havun_vault::keys::{KeyError, read_private_file, write_private_file};
use sha2::{Digest as _, Sha256};
use std::{fmt, path::PathBuf, str::FromStr};
use zeroize::Zeroizing;

/// Of Ed25519, in a key and in the input of a key hash.
const ED25519: u8 = 1;
/// Before a signature line.
const DASH: &str = "\u{2014} ";
/// The file in the state folder's `keys`.
const FILE: &str = "signing.key";

/// Why a note does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Not a verifier key.
    #[error("`{text}` is no verifier key: it reads NAME+HASH+KEY, as a certificate prints it")]
    Key {
        /// What was given.
        text: String,
    },
    /// Not a note.
    #[error("it is no signed note: {why}")]
    Malformed {
        /// What is missing.
        why: &'static str,
    },
    /// No signature by this key.
    #[error("it is not signed by {key}, but by {}", signers.join(", "))]
    OtherSigner {
        /// The name of the key.
        key: String,
        /// Names on its signature lines.
        signers: Vec<String>,
    },
    /// The signature does not belong to the text.
    #[error("its signature by {key} is wrong: the text is not what was signed")]
    Forged {
        /// The name of the key.
        key: String,
    },
}

/// The public half: checks notes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verifier {
    name: String,
    key: VerifyingKey,
}

impl Verifier {
    /// The name on its signature lines.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn hash(&self) -> [u8; 4] {
        let mut hasher = Sha256::new();
        hasher.update(self.name.as_bytes());
        hasher.update([b'\n', ED25519]);
        hasher.update(self.key.as_bytes());
        let digest: [u8; 32] = hasher.finalize().into();
        let [a, b, c, d, ..] = digest;
        [a, b, c, d]
    }

    /// The text of a note, when this key signed it.
    ///
    /// # Errors
    /// Any [`NoteError`] but the first.
    pub fn open<'n>(&self, note: &'n str) -> Result<&'n str, NoteError> {
        let (text, lines) = split(note)?;
        let mut signers = Vec::new();
        for line in lines.lines() {
            let (name, encoded) = line.strip_prefix(DASH).and_then(|rest| rest.split_once(' ')).ok_or(MALFORMED_LINE)?;
            let bytes = STANDARD.decode(encoded).map_err(|_| MALFORMED_LINE)?;
            let (hash, signature) = bytes.split_at_checked(4).ok_or(MALFORMED_LINE)?;
            if name == self.name && hash == self.hash() {
                let forged = NoteError::Forged { key: self.name.clone() };
                let signature = Signature::from_slice(signature).map_err(|_| forged.clone())?;
                return self.key.verify_strict(text.as_bytes(), &signature).map(|()| text).map_err(|_| forged);
            }
            signers.push(name.to_owned());
        }
        Err(NoteError::OtherSigner { key: self.name.clone(), signers })
    }
}

const MALFORMED_LINE: NoteError = NoteError::Malformed { why: "a signature line does not read `— NAME BASE64`" };

/// The text of a note and its signature lines, unchecked.
fn split(note: &str) -> Result<(&str, &str), NoteError> {
    let at = note.rfind("\n\n").ok_or(NoteError::Malformed { why: "there is no empty line before its signatures" })?;
    match (note.get(..=at), note.get(at + 2..)) {
        (Some(text), Some(lines)) if !lines.is_empty() && lines.ends_with('\n') => Ok((text, lines)),
        _ => Err(NoteError::Malformed { why: "it does not end with a signature line" }),
    }
}

/// The text of a note, unchecked.
///
/// # Errors
/// [`NoteError::Malformed`].
pub fn unchecked_text(note: &str) -> Result<&str, NoteError> {
    split(note).map(|(text, _)| text)
}

impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}+{}", self.name, hex::encode(self.hash()), STANDARD.encode(tagged(self.key.as_bytes()).as_slice()))
    }
}

impl FromStr for Verifier {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        let parse = || {
            let mut parts = text.trim().splitn(3, '+');
            let (name, hash, key) = (parts.next()?, parts.next()?, parts.next()?);
            let key = untagged(key)?;
            let verifier = Self { name: name.to_owned(), key: VerifyingKey::from_bytes(&key).ok()? };
            (is_name(name) && hash == hex::encode(verifier.hash())).then_some(verifier)
        };
        parse().ok_or_else(|| NoteError::Key { text: text.trim().to_owned() })
    }
}

/// The secret half: signs notes.
pub struct NoteSigner {
    verifier: Verifier,
    key: SigningKey,
}

impl NoteSigner {
    /// The signing key of this host; made at first use.
    ///
    /// # Errors
    /// [`OperationError::Key`] when the file cannot be read, written, or is none.
    pub fn of_host(cx: &Context) -> Result<Self, OperationError> {
        let path = key_file(cx)?;
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| OperationError::Key { from: path.display().to_string(), source };
        if !path.exists() {
            let made = Self::generate(&key_name(&cx.config.host.name))?;
            match write_private_file(&path, made.secret_text().as_bytes()) {
                // Another process was quicker: its key counts.
                Err(KeyError::Io { source, .. }) if source.kind() == std::io::ErrorKind::AlreadyExists => {}
                written => written.map_err(|e| failed(Box::new(e)))?,
            }
        }
        let secret = read_private_file(&path).map_err(|e| failed(Box::new(e)))?;
        Self::parse(&secret).ok_or_else(|| failed("it is no signing key: it should read PRIVATE+KEY+NAME+HASH+KEY".into()))
    }

    /// A new key.
    ///
    /// # Errors
    /// [`OperationError::Random`].
    pub fn generate(name: &str) -> Result<Self, OperationError> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(seed.as_mut_slice()).map_err(|e| OperationError::Random(e.to_string()))?;
        Ok(Self::from_seed(name, &seed))
    }

    fn from_seed(name: &str, seed: &[u8; 32]) -> Self {
        let key = SigningKey::from_bytes(seed);
        Self { verifier: Verifier { name: name.to_owned(), key: key.verifying_key() }, key }
    }

    fn parse(secret: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(secret).ok()?.trim().strip_prefix("PRIVATE+KEY+")?;
        let mut parts = text.splitn(3, '+');
        let (name, hash, key) = (parts.next()?, parts.next()?, parts.next()?);
        let seed = Zeroizing::new(untagged(key)?);
        let signer = Self::from_seed(name, &seed);
        (is_name(name) && hash == hex::encode(signer.verifier.hash())).then_some(signer)
    }

    fn secret_text(&self) -> Zeroizing<String> {
        let hash = hex::encode(self.verifier.hash());
        let key = Zeroizing::new(STANDARD.encode(tagged(self.key.as_bytes()).as_slice()));
        Zeroizing::new(format!("PRIVATE+KEY+{}+{hash}+{}\n", self.verifier.name, key.as_str()))
    }

    /// The public half.
    pub fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    /// The signature line for a text, which ends with a line break.
    pub fn signature_line(&self, text: &str) -> String {
        let mut bytes = self.verifier.hash().to_vec();
        bytes.extend_from_slice(&self.key.sign(text.as_bytes()).to_bytes());
        format!("{DASH}{} {}\n", self.verifier.name, STANDARD.encode(bytes))
    }

    /// The note of a text, which ends with a line break.
    pub fn note(&self, text: &str) -> String {
        format!("{text}\n{}", self.signature_line(text))
    }
}

/// Where the signing key of this host lies.
///
/// # Errors
/// [`OperationError::Io`] when the folder cannot be made.
pub fn key_file(cx: &Context) -> Result<PathBuf, OperationError> {
    cx.private_dir("")?;
    Ok(cx.private_dir("keys")?.join(FILE))
}

/// A key's name has no blanks and no `+`; the host's may.
fn key_name(host: &str) -> String {
    let word: String = host.chars().map(|c| if c.is_whitespace() || c == '+' || c.is_control() { '-' } else { c }).collect();
    format!("{}/havun-backup", if word.is_empty() { "host" } else { &word })
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c == '+')
}

fn tagged(key: &[u8; 32]) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(33));
    bytes.push(ED25519);
    bytes.extend_from_slice(key);
    bytes
}

fn untagged(text: &str) -> Option<[u8; 32]> {
    let bytes = Zeroizing::new(STANDARD.decode(text).ok()?);
    let (tag, key) = bytes.split_first()?;
    (*tag == ED25519).then(|| key.try_into().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer() -> NoteSigner {
        NoteSigner::from_seed("host/havun-backup", &[7; 32])
    }

    #[test]
    fn a_note_opens_with_its_key_and_with_no_other() {
        let signer = signer();
        let note = signer.note("{\n  \"a\": 1\n}\n");
        let verifier: Verifier = signer.verifier().to_string().parse().unwrap();
        assert_eq!(verifier.open(&note), Ok("{\n  \"a\": 1\n}\n"));
        let other = NoteSigner::from_seed("other", &[8; 32]);
        assert!(matches!(other.verifier().open(&note), Err(NoteError::OtherSigner { signers, .. }) if signers == ["host/havun-backup"]));
        assert!(matches!(verifier.open(&note.replace('1', "2")), Err(NoteError::Forged { .. })));
        assert!(matches!(verifier.open("no note\n"), Err(NoteError::Malformed { .. })));
    }

    /// The example of the specification: a key of the Go checksum database.
    #[test]
    fn a_foreign_verifier_key_reads_and_shows_alike() {
        let text = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8";
        assert_eq!(text.parse::<Verifier>().unwrap().to_string(), text);
        assert!(text.replace("033de0ae", "033de0af").parse::<Verifier>().is_err());
    }

    #[test]
    fn a_secret_reads_back() {
        let signer = signer();
        let back = NoteSigner::parse(signer.secret_text().as_bytes()).unwrap();
        assert_eq!(back.verifier(), signer.verifier());
        assert!(NoteSigner::parse(b"PRIVATE+KEY+x+00000000+AAAA").is_none());
    }

    #[test]
    fn a_host_with_blanks_in_its_name_has_a_key_name_without() {
        assert_eq!(key_name("Havun Core + 1"), "Havun-Core---1/havun-backup");
        assert!(is_name(&key_name("")));
    }
}
