//! As much of BSON as an archive's own documents need: their fields one after another, without descending.

/// The shortest document.
pub(super) const SHORTEST: u32 = 5;
/// The longest that a server stores: 16 MiB and what it grants itself for its own fields.
pub(super) const LONGEST: u32 = (16 << 20) + (16 << 10);

/// How many fields a document of an archive's own may have; it has five.
const MOST_FIELDS: usize = 64;

/// A field's value, as far as an archive uses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Text(&'a str),
    Bool(bool),
    Number(i64),
    Other,
}

/// The fields of one document; `None` where it is none.
pub(super) fn fields(document: &[u8]) -> Option<Vec<(&str, Value<'_>)>> {
    let length = u32::from_le_bytes(document.first_chunk().copied()?);
    if usize::try_from(length).ok()? != document.len() || document.last() != Some(&0) {
        return None;
    }
    let mut rest = document.get(4..document.len().checked_sub(1)?)?;
    let mut found = Vec::new();
    while let Some((kind, after)) = rest.split_first() {
        if found.len() == MOST_FIELDS {
            return None;
        }
        let (name, after) = name(after)?;
        let (value, after) = value(*kind, after)?;
        found.push((name, value));
        rest = after;
    }
    Some(found)
}

fn name(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    Some((std::str::from_utf8(bytes.get(..end)?).ok()?, bytes.get(end + 1..)?))
}

fn value(kind: u8, bytes: &[u8]) -> Option<(Value<'_>, &[u8])> {
    let length = || Some(usize::try_from(u32::from_le_bytes(bytes.first_chunk().copied()?)).ok()?);
    let size = match kind {
        0x0a => 0,
        0x08 => 1,
        0x10 => 4,
        0x01 | 0x09 | 0x11 | 0x12 => 8,
        0x07 => 12,
        0x02 => length()?.checked_add(4)?,
        0x03 | 0x04 => length()?,
        0x05 => length()?.checked_add(5)?,
        _ => return None,
    };
    let (taken, after) = bytes.split_at_checked(size)?;
    let value = match kind {
        0x02 => Value::Text(std::str::from_utf8(taken.get(4..)?.strip_suffix(&[0])?).ok()?),
        0x08 => Value::Bool(taken == [1]),
        0x10 => Value::Number(i32::from_le_bytes(taken.try_into().ok()?).into()),
        0x12 => Value::Number(i64::from_le_bytes(taken.try_into().ok()?)),
        0x03 | 0x04 if size < 5 => return None,
        _ => Value::Other,
    };
    Some((value, after))
}
