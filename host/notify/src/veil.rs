//! Secrets taken out of what others say: a server may repeat in its answer what it was asked with.

use crate::visible::visible_line;
use zeroize::Zeroizing;

/// In place of a secret.
const MASK: &str = "×××";
/// How much of what a server says is kept, in characters.
const LONGEST: usize = 300;
/// Shorter ones would tear words apart.
const SHORTEST: usize = 4;

/// Secrets that no error may hold.
#[derive(Default)]
pub(crate) struct Veil {
    secrets: Vec<Zeroizing<String>>,
}

impl Veil {
    /// Adds a secret.
    pub fn over(mut self, secret: &str) -> Self {
        if secret.chars().count() >= SHORTEST {
            self.secrets.push(Zeroizing::new(secret.to_owned()));
        }
        self
    }

    /// `text` on one line, bounded, without secrets and control characters.
    pub fn clean(&self, text: &str) -> String {
        let mut text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for secret in &self.secrets {
            text = text.replace(secret.as_str(), MASK);
        }
        let text = visible_line(&text);
        let mut short: String = text.chars().take(LONGEST).collect();
        if short.len() < text.len() {
            short.push('…');
        }
        short
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_repeats_the_secret_does_not_spread_it() {
        let veil = Veil::default().over("/services/T0/B0/hunter2").over("hunter2");
        assert_eq!(veil.clean("no\u{1b} hook at /services/T0/B0/hunter2\r\n(hunter2)"), r"no\u{1b} hook at ××× (×××)");
        assert_eq!(veil.clean(&"x".repeat(1000)).chars().count(), LONGEST + 1);
    }
}
