//! Where things lie in a vault. The only place that spells a path.

use crate::store::ObjectName;
use havun_model::{IndexId, PackId, SnapshotId};
use jiff::Timestamp;

/// The description of the vault, in the clear.
pub const VAULT_JSON: &str = "vault.json";
/// What a stranger reads first.
pub const README: &str = "README.txt";
/// SHA-256 sums of the two above, as `sha256sum` writes and checks them.
pub const HEAD_SUMS: &str = "vault.sha256";

/// The folder of the certificates of drills. Their names end in what they are, after the SHA-256.
pub const DRILLS: &str = "audit/drills";

/// The folder of the holds.
pub const HOLDS: &str = "holds";
/// The folder of the erasure register.
pub const ERASURES: &str = "erasures";

/// What an object is; part of its encryption context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ObjectKind {
    /// Frames of chunks.
    Pack,
    /// Tables of contents of packs.
    Index,
    /// One committed backup.
    Snapshot,
    /// Snapshots that must stay, or the end of that; lies outside of the epochs.
    Hold,
    /// A person whose data must be erased again after a restore, or the end of that; lies outside of the epochs.
    Erasure,
}

impl ObjectKind {
    /// `pack`, `index`, `snapshot`, `hold` or `erasure`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pack => "pack",
            Self::Index => "index",
            Self::Snapshot => "snapshot",
            Self::Hold => "hold",
            Self::Erasure => "erasure",
        }
    }

    /// The folder inside an epoch; of holds and erasures, at the top.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Pack => "packs",
            Self::Index => "index",
            Self::Snapshot => "snapshots",
            Self::Hold => HOLDS,
            Self::Erasure => ERASURES,
        }
    }
}

/// `havun-backup/v1/<vault id>/<kind>`.
pub fn context(vault_id: &str, kind: ObjectKind) -> String {
    format!("havun-backup/v1/{vault_id}/{}", kind.word())
}

/// The name of an object whose parts this program made, or that were read from a validated id.
fn name(text: String) -> ObjectName {
    #[expect(clippy::expect_used, reason = "every caller joins validated epochs, hex digits and constants")]
    ObjectName::new(&text).expect("a name made of safe parts")
}

/// `epochs/<epoch>/packs/ab/<sha256>`.
pub fn pack(epoch: &str, id: &PackId) -> ObjectName {
    let hex = id.to_hex();
    let shard: String = hex.chars().take(2).collect();
    name(format!("epochs/{epoch}/packs/{shard}/{hex}"))
}

/// `epochs/<epoch>/index/<sha256>`.
pub fn index(epoch: &str, id: &IndexId) -> ObjectName {
    name(format!("epochs/{epoch}/index/{id}"))
}

/// `epochs/<epoch>/snapshots/<UTC time>-<sha256>`.
pub fn snapshot(epoch: &str, taken_at: Timestamp, id: &SnapshotId) -> ObjectName {
    name(format!("epochs/{epoch}/snapshots/{}-{id}", taken_at.strftime("%Y%m%dT%H%M%SZ")))
}

/// `keys/<key id>.age`.
pub fn key(key_id: &str) -> ObjectName {
    name(format!("keys/{key_id}.age"))
}

/// `keys/<key id>.sha256`: the SHA-256 sum of the key file, as `sha256sum` writes and checks it.
pub fn key_sum(key_id: &str) -> ObjectName {
    name(format!("keys/{key_id}.sha256"))
}

/// `epochs/<epoch>/marks/<sha256>`: packs that nothing needs any more, with the time when that was seen.
pub fn mark(epoch: &str, hash: &str) -> ObjectName {
    name(format!("epochs/{epoch}/marks/{hash}"))
}

/// `epochs/<epoch>/moved/<sha256>`: packs whose needed chunks were copied to others.
pub fn moved(epoch: &str, hash: &str) -> ObjectName {
    name(format!("{}/{hash}", moved_folder(epoch)))
}

/// `epochs/<epoch>/moved`.
pub fn moved_folder(epoch: &str) -> String {
    format!("epochs/{epoch}/moved")
}

/// `holds/<UTC time>-<sha256>`.
pub fn hold(at: Timestamp, hash: &str) -> ObjectName {
    record(ObjectKind::Hold, at, hash)
}

/// `<folder of the kind>/<UTC time>-<sha256>`, at the top of the vault.
pub fn record(kind: ObjectKind, at: Timestamp, hash: &str) -> ObjectName {
    name(format!("{}/{}-{hash}", kind.folder(), at.strftime("%Y%m%dT%H%M%SZ")))
}

/// `epochs/<epoch>/bad/<sha256>`: packs of this store that are damaged and that a backup must not rely on.
pub fn bad(epoch: &str, hash: &str) -> ObjectName {
    name(format!("epochs/{epoch}/bad/{hash}"))
}

/// `epochs/<epoch>/parity/ab/<sha256>.par2`, the PAR2 file of the pack `epochs/<epoch>/packs/ab/<sha256>`.
pub fn parity_of(pack: &str) -> Option<ObjectName> {
    let (epoch, kind, hash) = parse(pack)?;
    (kind == ObjectKind::Pack).then(|| name(format!("epochs/{epoch}/parity/{}/{hash}.par2", hash.get(..2).unwrap_or_default())))
}

/// The pack that a PAR2 file is of.
pub fn pack_of_parity(name: &str) -> Option<ObjectName> {
    let (folder, rest) = name.strip_suffix(".par2")?.split_once("/parity/")?;
    let pack = format!("{folder}/packs/{rest}");
    (parse(&pack)?.1 == ObjectKind::Pack).then(|| ObjectName::new(pack).ok())?
}

/// `audit/drills/<UTC time>-<sha256>.<extension>`: one form of the certificate of a drill that began at `at`.
pub fn drill_certificate(at: Timestamp, hash: &str, extension: &str) -> ObjectName {
    name(format!("{DRILLS}/{}-{hash}.{extension}", at.strftime("%Y%m%dT%H%M%SZ")))
}

/// `epochs/<epoch>/index`.
pub(crate) fn index_folder(epoch: &str) -> String {
    format!("epochs/{epoch}/index")
}

/// Where damaged bytes are kept when the whole object has taken their place.
pub const QUARANTINE: &str = "quarantine";

/// `quarantine/<name, with _ for />-<sha256 of the damaged bytes>`. `None` where that would be too long.
pub fn quarantined(object: &ObjectName, hash: &str) -> Option<ObjectName> {
    ObjectName::new(format!("{QUARANTINE}/{}-{hash}", object.as_str().replace('/', "_"))).ok()
}

/// A constant name at the top of the vault.
pub fn top(text: &'static str) -> ObjectName {
    name(text.to_owned())
}

/// The time in a snapshot's name.
pub fn taken_at(name: &str) -> Option<Timestamp> {
    let (time, _) = name.rsplit('/').next()?.split_once('-')?;
    let parsed = jiff::fmt::strtime::parse("%Y%m%dT%H%M%SZ", time).ok()?;
    jiff::tz::TimeZone::UTC.to_timestamp(parsed.to_datetime().ok()?).ok()
}

/// Whether `text` may name an epoch: 1 to 32 of `a-z 0-9 -`.
pub fn is_epoch(text: &str) -> bool {
    (1..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// The 64 hex digits that end the last component of an object's name (of a certificate: that stand before its first
/// full stop), if it claims to be a SHA-256.
pub fn claimed_hash(name: &str) -> Option<&str> {
    let last = name.rsplit('/').next()?;
    let is_certificate = name.strip_prefix(DRILLS).is_some_and(|rest| rest.starts_with('/'));
    let last = if is_certificate { last.split('.').next()? } else { last };
    let hash = last.get(last.len().checked_sub(64)?..)?;
    let before_ok = last.len() == 64 || last.as_bytes().get(last.len() - 65) == Some(&b'-');
    (before_ok && hash.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))).then_some(hash)
}

/// The parts of `epochs/<epoch>/<folder>/…/<…sha256>`, and of `holds/<…sha256>` and `erasures/<…sha256>`, whose epoch is
/// empty; `None` for anything else.
pub fn parse(name: &str) -> Option<(&str, ObjectKind, &str)> {
    let mut parts = name.split('/');
    let top = parts.next()?;
    if let Some(kind) = [ObjectKind::Hold, ObjectKind::Erasure].into_iter().find(|kind| kind.folder() == top) {
        return (name.split('/').count() == 2).then_some(("", kind, claimed_hash(name)?));
    }
    let epoch = (top == "epochs").then(|| parts.next())??;
    let kind = match parts.next()? {
        "packs" => ObjectKind::Pack,
        "index" => ObjectKind::Index,
        "snapshots" => ObjectKind::Snapshot,
        _ => return None,
    };
    is_epoch(epoch).then_some(())?;
    Some((epoch, kind, claimed_hash(name)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_back() {
        let id = PackId::from_bytes([0xab; 32]);
        let name = pack("2026", &id);
        assert_eq!(parse(name.as_str()), Some(("2026", ObjectKind::Pack, id.to_hex().as_str())));
        let id = SnapshotId::from_bytes([1; 32]);
        let name = snapshot("2026", "2026-11-23T03:00:00Z".parse().unwrap(), &id);
        assert!(name.as_str().contains("/20261123T030000Z-"));
        assert_eq!(parse(name.as_str()), Some(("2026", ObjectKind::Snapshot, id.to_hex().as_str())));
        let name = hold("2026-11-23T03:00:00Z".parse().unwrap(), &id.to_hex());
        assert_eq!(parse(name.as_str()), Some(("", ObjectKind::Hold, id.to_hex().as_str())));
        let name = record(ObjectKind::Erasure, "2026-11-23T03:00:00Z".parse().unwrap(), &id.to_hex());
        assert_eq!(parse(name.as_str()), Some(("", ObjectKind::Erasure, id.to_hex().as_str())));
    }

    #[test]
    fn a_certificate_claims_the_hash_before_its_extension() {
        let hash = "ab".repeat(32);
        let name = drill_certificate("2026-11-23T03:00:00Z".parse().unwrap(), &hash, "json.age");
        assert_eq!(name.as_str(), format!("audit/drills/20261123T030000Z-{hash}.json.age"));
        assert_eq!((claimed_hash(name.as_str()), parse(name.as_str())), (Some(hash.as_str()), None));
        assert_eq!(claimed_hash(&format!("epochs/2026/parity/ab/{hash}.par2")), None);
    }

    #[test]
    fn what_is_no_object_is_no_object() {
        for text in [
            "vault.json",
            "keys/ab.age",
            "epochs/2026/packs/ab/xyz",
            "epochs/../packs/ab/00",
            "tmp/1",
            "holds/1",
            "holds/a/b",
            "erasures/1",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
