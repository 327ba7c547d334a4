//! Keeping a certificate: its files on this host, and a copy in each store of the project, in the clear only where the
//! vault is.
//!
//! On this host nothing ever deletes them. In a vault they lie beneath `audit/`, which no clean-up and no expiry touches,
//! and which a copy to an archive takes along: a store that is away now has them after the next run.

use super::{
    Certificate,
    certificate::{html, markdown},
};
use crate::{
    config::ProjectConfig,
    context::Context,
    error::{OperationError, one_line},
    project,
    signing::NoteSigner,
};
use havun_model::StoreName;
use havun_vault::{keys::encrypt_for, layout};
use sha2::{Digest as _, Sha256};
use std::{
    fs,
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// Folder of all certificates in the state folder.
const CERTIFICATES: &str = "certificates";

/// The forms of a certificate, with their extensions.
pub(super) struct Forms {
    forms: [(&'static str, String); 4],
}

impl Forms {
    /// Signs and renders.
    pub fn make(certificate: &Certificate, signer: &NoteSigner) -> Self {
        let json = certificate.signed_text();
        let signature = signer.signature_line(&json);
        let (markdown, html) = rendered(certificate, &json, &signature);
        Self { forms: [("note", format!("{json}\n{signature}")), ("json", json), ("md", markdown), ("html", html)] }
    }

    /// Writes them to this host; the note first, as it holds everything. Returns what was written, and why not all of it.
    pub fn write(&self, cx: &Context, certificate: &Certificate) -> (Vec<PathBuf>, Option<OperationError>) {
        let mut files = Vec::new();
        let lost = self.write_to(cx, certificate, &mut files).err();
        (files, lost)
    }

    fn write_to(&self, cx: &Context, certificate: &Certificate, files: &mut Vec<PathBuf>) -> Result<(), OperationError> {
        cx.private_dir("")?;
        let folder = cx.config.host.state_dir.join(CERTIFICATES).join(certificate.project.as_str());
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
        made.map_err(|source| OperationError::Io { doing: "cannot make", path: folder.clone(), source })?;
        let stem = format!("{}-{}", certificate.started_at.strftime("%Y%m%dT%H%M%SZ"), certificate.snapshot.id.short());
        let stem = free_stem(&folder, &stem);
        for (extension, text) in &self.forms {
            let path = folder.join(format!("{stem}.{extension}"));
            write_new(&path, text.as_bytes()).map_err(|source| OperationError::Io { doing: "cannot write", path: path.clone(), source })?;
            files.push(path);
        }
        Ok(())
    }

    /// Puts them into one store of the project.
    ///
    /// # Errors
    /// The store's, and [`OperationError::Key`] when nobody is known whom they could be encrypted for.
    pub fn store(&self, cx: &Context, project: &ProjectConfig, name: &StoreName, certificate: &Certificate) -> Result<(), OperationError> {
        let open = project::open_store(cx, &project.name, name)?;
        // Only a vault keeps certificates.
        let vault = project::open_vault(cx, &project.name, &open)?;
        drop(vault);
        for (extension, text) in &self.forms {
            let (bytes, extension) = match project.encryption {
                false => (text.as_bytes().to_vec(), (*extension).to_owned()),
                true => {
                    let sealed = encrypt_for(text.as_bytes(), &cx.recipients()?);
                    let failed = |e| OperationError::Key { from: "[keys]".to_owned(), source: Box::new(e) };
                    (sealed.map_err(failed)?, format!("{extension}.age"))
                }
            };
            let sum: [u8; 32] = Sha256::digest(&bytes).into();
            let object = layout::drill_certificate(certificate.started_at, &hex::encode(sum), &extension);
            let put = open.store.put(&object, &bytes.as_slice(), &sum);
            put.map_err(|source| OperationError::Store { store: name.clone(), source })?;
        }
        Ok(())
    }
}

/// Both pages of a certificate; always the same for the same JSON and signature.
pub(super) fn rendered(certificate: &Certificate, json: &str, signature: &str) -> (String, String) {
    let sum = hex::encode(Sha256::digest(json.as_bytes()));
    (markdown(certificate, &sum, signature), html(certificate, &sum, signature))
}

/// Puts a certificate into every store of the project: those that hold it then, and why the others do not.
pub(super) fn store_everywhere(
    cx: &Context,
    project: &ProjectConfig,
    forms: &Forms,
    certificate: &Certificate,
) -> Result<(Vec<String>, Vec<String>), OperationError> {
    let (mut stored, mut not) = (Vec::new(), Vec::new());
    for name in project::store_order(cx, project, None)? {
        match forms.store(cx, project, &name, certificate) {
            Ok(()) => stored.push(name.to_string()),
            Err(OperationError::Interrupted) => return Err(OperationError::Interrupted),
            Err(error) => not.push(format!("store `{name}`: {}", one_line(&error))),
        }
    }
    Ok((stored, not))
}

/// Two drills of one snapshot may begin within a second.
fn free_stem(folder: &Path, stem: &str) -> String {
    let name = |n: u32| if n == 1 { stem.to_owned() } else { format!("{stem}-{n}") };
    (1..).map(name).find(|stem| !folder.join(format!("{stem}.note")).exists()).unwrap_or_else(|| stem.to_owned())
}

fn write_new(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
