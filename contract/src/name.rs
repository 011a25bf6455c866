//! The name of a listener or a pool: its identity, over every reload and in every list.

use std::fmt;
use std::sync::{Arc, LazyLock};

/// 1 to 63 of `a-z`, `0-9`, `-` and `_`, the first a letter. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Arc<str>);

/// The listener and the pool that the base format describes.
pub const DEFAULT_NAME: &str = "default";

/// What a name may be, for messages.
pub(crate) const ALLOWED_NAME: &str = "1 to 63 of a-z, 0-9, - and _, beginning with a letter";

const MAX_LENGTH: usize = 63;

/// Thousands of backends share the name of one pool, so it is allocated once.
static DEFAULT: LazyLock<Name> = LazyLock::new(|| Name(DEFAULT_NAME.into()));

impl Name {
    /// `None` where `text` is not a name.
    ///
    /// ```
    /// use contract::Name;
    ///
    /// assert!(Name::new("chat-8b").is_some());
    /// assert!(Name::new("8b").is_none());
    /// ```
    pub fn new(text: &str) -> Option<Name> {
        let is_allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
        let is_name = text.len() <= MAX_LENGTH
            && text.starts_with(|first: char| first.is_ascii_lowercase())
            && text.bytes().all(is_allowed);
        is_name.then(|| Name(text.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// [`DEFAULT_NAME`].
impl Default for Name {
    fn default() -> Self {
        DEFAULT.clone()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The pool or listener of a proxy that tells no names.
pub(crate) fn default_name() -> String {
    DEFAULT_NAME.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_short_and_plain_and_begins_with_a_letter() {
        let longest = "a".repeat(MAX_LENGTH);
        for good in [DEFAULT_NAME, "a", "web_2", "chat-8b", &longest] {
            assert_eq!(
                Name::new(good).map(|name| name.to_string()).as_deref(),
                Some(good)
            );
        }
        let too_long = "a".repeat(MAX_LENGTH + 1);
        for bad in [
            "", "2web", "-a", "_a", "Web", "a b", "a.b", "\u{e4}", &too_long,
        ] {
            assert_eq!(Name::new(bad), None, "{bad}");
        }
        assert_eq!(Name::default().as_str(), DEFAULT_NAME);
    }
}
