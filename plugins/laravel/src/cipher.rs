//! Values that Laravel has encrypted (`Illuminate\Encryption\Encrypter`): base64 of a JSON object with `iv`, `value`, `mac`
//! and, for GCM, `tag`. A key is proven by opening one, not by its looks.

use crate::database::Application;
use aes_gcm::{
    Aes128Gcm, Aes256Gcm, KeyInit as _,
    aead::{Aead, Payload as Message},
    aes::{Aes128, Aes256},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use cbc::cipher::{BlockModeDecrypt as _, KeyIvInit as _, block_padding::Pkcs7};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

/// A key as `APP_KEY` has it.
pub struct Key(Vec<u8>);

impl Key {
    /// `base64:…`, or the bytes themselves; 16 or 32 of them.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = match text.strip_prefix("base64:") {
            Some(encoded) => STANDARD.decode(encoded).ok()?,
            None => text.as_bytes().to_vec(),
        };
        matches!(bytes.len(), 16 | 32).then_some(Self(bytes))
    }
}

/// `APP_KEY`, then those that were it before.
pub fn keys(app: &Application<'_>) -> Vec<Key> {
    let previous = app.env("APP_PREVIOUS_KEYS").unwrap_or_default();
    app.env("APP_KEY").iter().map(String::as_str).chain(previous.split(',')).filter_map(|text| Key::parse(text.trim())).collect()
}

/// An encrypted value.
pub struct Encrypted {
    iv_text: String,
    value_text: String,
    iv: Vec<u8>,
    value: Vec<u8>,
    mac: Vec<u8>,
    tag: Vec<u8>,
}

impl Encrypted {
    /// `None` for a text that is no such value.
    pub fn parse(text: &str) -> Option<Self> {
        let json: serde_json::Value = serde_json::from_slice(&STANDARD.decode(text.trim()).ok()?).ok()?;
        let part = |name: &str| json.get(name).and_then(serde_json::Value::as_str).map(str::to_owned);
        let (iv_text, value_text) = (part("iv")?, part("value")?);
        Some(Self {
            iv: STANDARD.decode(&iv_text).ok()?,
            value: STANDARD.decode(&value_text).ok()?,
            mac: unhex(&part("mac")?)?,
            tag: STANDARD.decode(part("tag").unwrap_or_default()).ok()?,
            iv_text,
            value_text,
        })
    }

    /// Whether `key` opens it.
    pub fn opens_with(&self, key: &Key) -> bool {
        if self.tag.is_empty() { self.mac_holds(key) && self.opens_cbc(&key.0) } else { self.opens_gcm(&key.0) }
    }

    fn mac_holds(&self, key: &Key) -> bool {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&key.0) else { return false };
        mac.update(self.iv_text.as_bytes());
        mac.update(self.value_text.as_bytes());
        mac.verify_slice(&self.mac).is_ok()
    }

    fn opens_cbc(&self, key: &[u8]) -> bool {
        if key.len() == 32 {
            cbc::Decryptor::<Aes256>::new_from_slices(key, &self.iv).is_ok_and(|c| c.decrypt_padded_vec::<Pkcs7>(&self.value).is_ok())
        } else {
            cbc::Decryptor::<Aes128>::new_from_slices(key, &self.iv).is_ok_and(|c| c.decrypt_padded_vec::<Pkcs7>(&self.value).is_ok())
        }
    }

    fn opens_gcm(&self, key: &[u8]) -> bool {
        let sealed = [self.value.as_slice(), &self.tag].concat();
        let message = || Message { msg: &sealed, aad: &[] };
        let Ok(iv) = <[u8; 12]>::try_from(self.iv.as_slice()) else { return false };
        if key.len() == 32 {
            Aes256Gcm::new_from_slice(key).is_ok_and(|cipher| cipher.decrypt(&iv.into(), message()).is_ok())
        } else {
            Aes128Gcm::new_from_slice(key).is_ok_and(|cipher| cipher.decrypt(&iv.into(), message()).is_ok())
        }
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |c: u8| char::from(c).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    text.as_bytes()
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CBC_256: &str = "eyJpdiI6IkFBRUNBd1FGQmdjSUNRb0xEQTBPRHc9PSIsInZhbHVlIjoiT2xkWnBsVDdwZjdBTExlTG00Q0tWZz09IiwibWFjIjoiZWNjMzdiNDJiYjE0MmM4NThlNmM1ZTRlMWZlYzZjYWVjODVkNjhiNjM5NTYzYjI5YjRmZjFhMDYxOTQ5Y2RhZCIsInRhZyI6IiJ9";
    const CBC_128: &str = "eyJpdiI6IkVCRVNFeFFWRmhjWUdSb2JIQjBlSHc9PSIsInZhbHVlIjoiQ3h3WXBpVVowSERjSnhWMzcramdVZz09IiwibWFjIjoiOGJlN2JjYjNmNzNmNjQzODk2YzQ0NTRiN2U0ZDBjYzlkNDllNWQ2NGI5NjJiYzY1MzBiZDBjZmRjNTkxZjAyYyIsInRhZyI6IiJ9";
    const GCM_256: &str = "eyJpdiI6IkFBRUNBd1FGQmdjSUNRb0wiLCJ2YWx1ZSI6Ikt6RUVhQkJcLyIsIm1hYyI6IiIsInRhZyI6IlBOb2FCNlwveFkyZ29jUlRMaFwvekI0UT09In0=";
    const GCM_128: &str = "eyJpdiI6IkFBRUNBd1FGQmdjSUNRb0wiLCJ2YWx1ZSI6IjdmcE5oeFBcLyIsIm1hYyI6IiIsInRhZyI6IkQ5Y2t0eFwvOVFIam9zTVwvSGJCeXpuUT09In0=";

    #[test]
    fn every_cipher_of_the_framework_opens_with_its_key_only() {
        let (long, short) = (Key::parse("base64:MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI="), Key::parse("1234567890123456"));
        let (long, short) = (long.expect("32 bytes"), short.expect("16 bytes"));
        let other = Key::parse("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef").expect("32 bytes");
        for (text, right, wrong) in [(CBC_256, &long, &short), (CBC_128, &short, &long), (GCM_256, &long, &short), (GCM_128, &short, &long)] {
            let value = Encrypted::parse(text).expect("a value");
            assert!(value.opens_with(right) && !value.opens_with(wrong) && !value.opens_with(&other), "{text}");
        }
    }

    #[test]
    fn other_texts_are_no_values_and_short_keys_no_keys() {
        for text in ["", "secret", "c2VjcmV0", "eyJpdiI6MX0=", "$2y$10$abcdefghijklmnopqrstuv"] {
            assert!(Encrypted::parse(text).is_none(), "{text}");
        }
        for text in ["", "short", "base64:YWI=", "base64:!!"] {
            assert!(Key::parse(text).is_none(), "{text}");
        }
    }
}
