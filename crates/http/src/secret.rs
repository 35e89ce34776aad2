//! Texts that are never shown.

use std::fmt;

/// A password, key or token. Its debug form says only whether there is one, and there is no other.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text itself, for the one place that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.trim().to_owned())
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "none" } else { "…" })
    }
}

/// `text` without any of `secrets`, however a server or library came to repeat them.
pub fn scrub<'a>(text: &str, secrets: impl IntoIterator<Item = &'a Secret>) -> String {
    // Shorter ones are no secrets, and would take words apart.
    let hidden = secrets.into_iter().filter(|secret| secret.0.len() >= 4);
    hidden.fold(text.to_owned(), |text, secret| text.replace(&secret.0, "…"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let secret = Secret::from(" abcd1234\n");
        assert_eq!(secret.reveal(), "abcd1234");
        assert_eq!(format!("{secret:?} {:?}", Secret::default()), "… none");
        assert_eq!(scrub("key abcd1234 is wrong", [&secret, &Secret::default()]), "key … is wrong");
    }
}
