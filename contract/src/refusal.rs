//! What the proxy does not run although the configuration asks for it, as codes that programs act on.

use serde::{Deserialize, Serialize};

/// One part of a configuration that the proxy refuses. The part keeps its last accepted value, and
/// everything else is in force; only a file that is refused as a whole ([`RefusalCode::Unreadable`],
/// [`RefusalCode::Invalid`]) leaves the whole running configuration as it was.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct Refusal {
    /// What kind of refusal it is.
    pub code: RefusalCode,
    /// JSON pointer (RFC 6901) into `proxy_config.json`, as `/listen` or `/backends/3`; empty for the
    /// whole file.
    pub place: String,
    /// The refused value, shortened: an address as `127.0.0.1:80/tcp`, or the text that was found.
    pub value: String,
    /// The message of the system or the check, for people; programs act only on `code`.
    #[serde(default)]
    pub detail: String,
    /// Unix milliseconds of the first refusal of this code, place and value without a break.
    pub since: u64,
}

/// Why a part is refused.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, PartialEq, Eq, Hash)]
#[serde(rename_all = "snake_case")]
pub enum RefusalCode {
    /// The file cannot be read.
    Unreadable,
    /// The file is not a valid configuration; one refusal a fault.
    Invalid,
    /// Another program holds the address and port. The proxy tries again.
    AddressInUse,
    /// No interface of the proxy's host has the address. The proxy tries again.
    AddressNotAvailable,
    /// Binding needs a right that the proxy gave up at its start; only a restart helps.
    NeedsRestart,
    /// Binding failed for another reason, which `detail` names. The proxy tries again.
    CannotBind,
    /// The backend is a listener of this proxy; the entry is skipped.
    OwnListener,
    /// A code of a newer proxy.
    #[serde(other)]
    Other,
}

impl RefusalCode {
    /// The word in JSON, logs and metrics.
    pub fn word(self) -> &'static str {
        match self {
            RefusalCode::Unreadable => "unreadable",
            RefusalCode::Invalid => "invalid",
            RefusalCode::AddressInUse => "address_in_use",
            RefusalCode::AddressNotAvailable => "address_not_available",
            RefusalCode::NeedsRestart => "needs_restart",
            RefusalCode::CannotBind => "cannot_bind",
            RefusalCode::OwnListener => "own_listener",
            RefusalCode::Other => "other",
        }
    }

    /// Whether it is about an address to listen on.
    pub fn is_of_listener(self) -> bool {
        match self {
            RefusalCode::AddressInUse
            | RefusalCode::AddressNotAvailable
            | RefusalCode::NeedsRestart
            | RefusalCode::CannotBind => true,
            RefusalCode::Unreadable
            | RefusalCode::Invalid
            | RefusalCode::OwnListener
            | RefusalCode::Other => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_of_a_newer_proxy_is_read_as_other() {
        let json = r#"{"code":"quota_exceeded","place":"/listen","value":"x","since":1}"#;
        let refusal: Refusal = serde_json::from_str(json).expect("read");
        assert_eq!(refusal.code, RefusalCode::Other);
    }

    #[test]
    fn the_word_is_what_stands_in_json() {
        for code in [
            RefusalCode::Unreadable,
            RefusalCode::Invalid,
            RefusalCode::AddressInUse,
            RefusalCode::AddressNotAvailable,
            RefusalCode::NeedsRestart,
            RefusalCode::CannotBind,
            RefusalCode::OwnListener,
        ] {
            assert_eq!(serde_json::json!(code), code.word());
        }
    }
}
