//! Which host keys a server may show.

use russh::keys::{Algorithm, EcdsaCurve, HashAlg, PublicKey, ssh_key::Fingerprint};
use std::{fmt, str::FromStr};

/// Hetzner publishes the keys of its Storage Boxes; they are the same on all of them.
const HETZNER: [(Family, &str); 2] = [
    (Family::Ed25519, "SHA256:XqONwb1S0zuj5A1CDxpOSuD2hnAArV1A3wKY7Z3sdgM"),
    (Family::Rsa, "SHA256:EMlfI8GsRIfpVkoW1H2u0zYVpFGKkIMKHFZIRkf2ioI"),
];

/// The keys that a server may show; never learnt at first use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostKeyPin {
    /// As it was configured, for people.
    text: String,
    pinned: Vec<Pinned>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Pinned {
    /// `None` where only a fingerprint is known.
    family: Option<Family>,
    fingerprint: Fingerprint,
}

/// Keys that are negotiated under the same names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Ed25519,
    Ecdsa,
    Rsa,
}

/// A text that pins no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no host key: expected `hetzner`, `SHA256:…` or a line such as `ssh-ed25519 AAAA…`")]
pub struct PinError {
    text: String,
}

impl HostKeyPin {
    /// Whether `key` may be shown.
    pub(super) fn allows(&self, key: &PublicKey) -> bool {
        let found = key.fingerprint(HashAlg::Sha256);
        self.pinned.iter().any(|pinned| pinned.fingerprint == found)
    }

    /// Key types to ask for, one connection after the other until a pinned key shows: a server has several keys and shows
    /// the one that was asked for first.
    pub(super) fn offers(&self) -> Vec<Vec<Algorithm>> {
        let known: Option<Vec<Family>> = self.pinned.iter().map(|pinned| pinned.family).collect();
        match known {
            Some(families) => vec![families.into_iter().flat_map(Family::algorithms).collect()],
            None => [Family::Ed25519, Family::Ecdsa, Family::Rsa].into_iter().map(Family::algorithms).collect(),
        }
    }
}

impl Family {
    fn algorithms(self) -> Vec<Algorithm> {
        match self {
            Self::Ed25519 => vec![Algorithm::Ed25519],
            Self::Ecdsa => {
                [EcdsaCurve::NistP256, EcdsaCurve::NistP384, EcdsaCurve::NistP521].map(|curve| Algorithm::Ecdsa { curve }).to_vec()
            }
            // Never SHA-1.
            Self::Rsa => [HashAlg::Sha512, HashAlg::Sha256].map(|hash| Algorithm::Rsa { hash: Some(hash) }).to_vec(),
        }
    }

    fn of(key: &PublicKey) -> Option<Self> {
        match key.algorithm() {
            Algorithm::Ed25519 => Some(Self::Ed25519),
            Algorithm::Ecdsa { .. } => Some(Self::Ecdsa),
            Algorithm::Rsa { .. } => Some(Self::Rsa),
            _ => None,
        }
    }
}

impl FromStr for HostKeyPin {
    type Err = PinError;

    fn from_str(text: &str) -> Result<Self, PinError> {
        let text = text.trim();
        let bad = || PinError { text: text.chars().take(80).collect() };
        let pinned = if text == "hetzner" {
            HETZNER.iter().map(|(family, print)| pinned(Some(*family), print)).collect::<Option<_>>().ok_or_else(bad)?
        } else if text.starts_with("SHA256:") {
            vec![pinned(None, text).ok_or_else(bad)?]
        } else {
            let key = PublicKey::from_openssh(text).map_err(|_| bad())?;
            let family = Family::of(&key).ok_or_else(bad)?;
            vec![Pinned { family: Some(family), fingerprint: key.fingerprint(HashAlg::Sha256) }]
        };
        Ok(Self { text: text.to_owned(), pinned })
    }
}

fn pinned(family: Option<Family>, fingerprint: &str) -> Option<Pinned> {
    Some(Pinned { family, fingerprint: fingerprint.parse().ok()? })
}

impl fmt::Display for HostKeyPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prints: Vec<String> = self.pinned.iter().map(|pinned| pinned.fingerprint.to_string()).collect();
        f.write_str(&prints.join(" or "))?;
        if self.text == "hetzner" { f.write_str(" (preset `hetzner`)") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hetzner's published key of a Storage Box.
    const BOX_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIICf9svRenC/PLKIL9nk6K/pxQgoiFC41wTNvoIncOxs";

    #[test]
    fn preset_fingerprint_and_key_allow_the_same_key() {
        let key = PublicKey::from_openssh(BOX_KEY).unwrap();
        for text in ["hetzner", "SHA256:XqONwb1S0zuj5A1CDxpOSuD2hnAArV1A3wKY7Z3sdgM", BOX_KEY] {
            assert!(text.parse::<HostKeyPin>().unwrap().allows(&key), "{text}");
        }
        let other = "SHA256:EMlfI8GsRIfpVkoW1H2u0zYVpFGKkIMKHFZIRkf2ioI".parse::<HostKeyPin>().unwrap();
        assert!(!other.allows(&key));
    }

    #[test]
    fn a_known_type_is_asked_for_alone_and_an_unknown_one_in_turn() {
        assert_eq!(BOX_KEY.parse::<HostKeyPin>().unwrap().offers(), [vec![Algorithm::Ed25519]]);
        assert_eq!("SHA256:XqONwb1S0zuj5A1CDxpOSuD2hnAArV1A3wKY7Z3sdgM".parse::<HostKeyPin>().unwrap().offers().len(), 3);
    }

    #[test]
    fn other_texts_pin_nothing() {
        for text in [
            "",
            "yes",
            "SHA256:",
            "SHA256:short",
            "MD5:aa:bb",
            "ssh-ed25519",
            "ssh-ed25519 AAAA",
            "ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIICf9svRenC/PLKIL9nk6K/pxQgoiFC41wTNvoIncOxs",
        ] {
            assert!(text.parse::<HostKeyPin>().is_err(), "{text}");
        }
    }
}
