//! The escrow key: made here, shown once, kept elsewhere.

use super::InitError;
use crate::config::Config;
use havun_vault::keys::{Identity, Recipient, write_private_file};
use jiff::Timestamp;
use std::path::Path;
use zeroize::Zeroizing;

/// How many characters of the secret key prove that somebody has a copy.
const PROOF: usize = 8;

/// A new escrow key and the text that is kept with it. Forgotten when dropped.
pub struct EscrowKit {
    recipient: String,
    text: Zeroizing<String>,
    proof: Zeroizing<String>,
}

/// Whether every text is a recipient.
///
/// # Errors
/// [`InitError::Recipient`] names the first that is none.
pub fn check_recipients(texts: &[String]) -> Result<(), InitError> {
    let wrong = texts.iter().find(|text| text.parse::<Recipient>().is_err());
    wrong.map_or(Ok(()), |text| Err(InitError::Recipient { text: text.clone() }))
}

/// Whether something would be encrypted for this host alone.
pub fn needs_escrow(config: &Config) -> bool {
    config.keys.escrow.is_empty() && config.projects.values().any(|project| project.encryption)
}

impl EscrowKit {
    /// A new key for the host of this name.
    pub fn new(host: &str, now: Timestamp) -> Self {
        let identity = Identity::generate();
        let secret = identity.secret_text();
        let proof = Zeroizing::new(secret.chars().skip(secret.chars().count().saturating_sub(PROOF)).collect());
        let recipient = identity.recipient().to_string();
        let text = Zeroizing::new(kit(host, now, &recipient, &secret));
        Self { recipient, text, proof }
    }

    /// Its public half, for `escrow` in `[keys]`.
    pub fn recipient(&self) -> &str {
        &self.recipient
    }

    /// What is to be kept: an age identity file whose comments say what it is for.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// How many characters at the end of the secret key [`EscrowKit::is_proved_by`] asks for.
    pub fn proof_length(&self) -> usize {
        PROOF
    }

    /// Whether `answer` ends like the secret key: whoever says so has a copy.
    pub fn is_proved_by(&self, answer: &str) -> bool {
        answer.trim().to_ascii_uppercase().ends_with(self.proof.as_str())
    }

    /// Writes it to a new file of mode 0600 that the operator takes away.
    ///
    /// # Errors
    /// [`InitError::Key`]; an existing file is never replaced.
    pub fn write(&self, path: &Path) -> Result<(), InitError> {
        write_private_file(path, self.text.as_bytes()).map_err(InitError::Key)
    }
}

fn kit(host: &str, now: Timestamp, recipient: &str, secret: &str) -> String {
    let host: String = host.chars().filter(|c| !c.is_control()).collect();
    format!(
        "\
# ESCROW KIT of havun-backup for host {host}, made {}
#
# Keep this away from that host: on paper in a safe, or in a password manager. Whoever has it can read every
# backup of the host. Without it, a lost host means lost backups: nobody else can open them.
#
# To restore on another machine: save this text as escrow.agekey (chmod 600), write
#     [keys]
#     identity = {{ file = \"/root/escrow.agekey\" }}
# into a configuration that names the stores, and run `havun-backup restore`.
# Without havun-backup: README.txt in each vault says how to read it with age, zstd and tar.
#
# public key: {recipient}
{secret}
",
        now.strftime("%Y-%m-%d")
    )
}
