//! How a program says who it is.

use crate::secret::Secret;

/// What is shown to a service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Authorization {
    /// Nothing.
    #[default]
    None,
    /// `Authorization: Bearer …`
    Bearer(Secret),
    /// `Authorization: Basic …`
    Basic {
        /// Who.
        username: String,
        /// Their password.
        password: Secret,
    },
    /// A header of the service's own.
    Header {
        /// Its name.
        name: &'static str,
        /// Its value.
        value: Secret,
    },
}

impl Authorization {
    /// Name and value of the header; `None` where nothing is shown.
    pub(crate) fn header(&self) -> Option<(&'static str, String)> {
        match self {
            Self::None => None,
            Self::Bearer(token) => Some(("Authorization", format!("Bearer {}", token.reveal()))),
            Self::Basic { username, password } => Some(("Authorization", basic(username, password))),
            Self::Header { name, value } => Some((name, value.reveal().to_owned())),
        }
    }

    /// What must not be repeated in messages.
    pub(crate) fn secret(&self) -> Option<&Secret> {
        match self {
            Self::None => None,
            Self::Bearer(secret)
            | Self::Basic { password: secret, .. }
            | Self::Header { value: secret, .. } => Some(secret),
        }
    }
}

/// `Basic …`, as RFC 7617 has it.
pub fn basic(username: &str, password: &Secret) -> String {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let text = format!("{username}:{}", password.reveal());
    let mut encoded = String::from("Basic ");
    for group in text.as_bytes().chunks(3) {
        let bits =
            group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for idx in 0..4 {
            let digit = alphabet.get((bits >> (18 - 6 * idx)) as usize & 63).copied().unwrap_or(b'=');
            encoded.push(if idx <= group.len() { char::from(digit) } else { '=' });
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_authorization_is_that_of_the_standard() {
        // The examples of RFC 7617, and of RFC 4648 for the ends.
        assert_eq!(basic("Aladdin", &Secret::from("open sesame")), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!(basic("a", &Secret::from("b")), "Basic YTpi");
        assert_eq!(basic("a", &Secret::from("bc")), "Basic YTpiYw==");
        assert_eq!(basic("a", &Secret::from("bcd")), "Basic YTpiY2Q=");
    }

    #[test]
    fn each_kind_has_its_header() {
        let key = || Secret::from("key");
        assert_eq!(Authorization::None.header(), None);
        assert_eq!(Authorization::Bearer(key()).header(), Some(("Authorization", "Bearer key".to_owned())));
        let of_azure = Authorization::Header { name: "api-key", value: key() };
        assert_eq!(of_azure.header(), Some(("api-key", "key".to_owned())));
        assert!(!format!("{of_azure:?}").contains("\"key\""));
    }
}
