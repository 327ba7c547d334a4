//! A webhook of the operator's own: the message as JSON.
//!
//! Body: [`Message::to_json`]. Headers: `X-Havun-Event` (`failure`, …), `X-Havun-Key` (the same for each try), and either
//! `Authorization: Bearer …` or `X-Havun-Signature: sha256=…`, the HMAC-SHA256 of the body in hex under the shared secret.

use crate::{Channel, Message, Patience, SendError, http::Poster};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use std::path::Path;
use zeroize::Zeroizing;

/// How the receiver knows who sends.
pub enum WebhookAuthentication {
    /// By the address.
    None,
    /// By a token.
    Bearer(Zeroizing<String>),
    /// By a signature under a shared secret.
    Signature(Zeroizing<String>),
}

/// A webhook of the operator's own.
pub struct WebhookChannel {
    poster: Poster,
    authentication: WebhookAuthentication,
}

impl WebhookChannel {
    /// # Errors
    /// [`SendError::Setting`].
    pub fn new(url: &str, authentication: WebhookAuthentication, ca_file: Option<&Path>, patience: Patience) -> Result<Self, SendError> {
        let mut poster = Poster::new(url, ca_file, patience)?;
        if let WebhookAuthentication::Bearer(secret) | WebhookAuthentication::Signature(secret) = &authentication {
            poster = poster.hiding(secret);
        }
        Ok(Self { poster, authentication })
    }

    fn proof(&self, body: &str) -> Option<(&'static str, Zeroizing<String>)> {
        match &self.authentication {
            WebhookAuthentication::None => None,
            WebhookAuthentication::Bearer(token) => Some(("authorization", Zeroizing::new(format!("Bearer {}", token.as_str())))),
            WebhookAuthentication::Signature(secret) => {
                let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).ok()?;
                mac.update(body.as_bytes());
                Some(("x-havun-signature", Zeroizing::new(format!("sha256={}", hex::encode(mac.finalize().into_bytes())))))
            }
        }
    }
}

impl Channel for WebhookChannel {
    fn send(&self, message: &Message) -> Result<(), SendError> {
        let body = message.to_json().to_string();
        let mut headers =
            vec![("x-havun-event", Zeroizing::new(message.event.word().to_owned())), ("x-havun-key", Zeroizing::new(message.key.clone()))];
        headers.extend(self.proof(&body));
        self.poster.post(&body, &headers)
    }

    fn probe(&self) -> Result<String, SendError> {
        self.poster.reach()
    }
}
