//! A fault in something written by hand or by another program: where, what, and what is allowed.

use std::fmt;

/// One fault. `place` is an RFC 6901 JSON pointer, or a line and column where the text is not
/// JSON at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// JSON pointer, or line and column where the text is no JSON.
    pub place: String,
    /// The offending value as written, shortened.
    pub found: String,
    /// What is allowed there.
    pub allowed: String,
}

/// The `found` of a missing value.
pub(crate) const NOTHING: &str = "nothing";
pub(crate) const UNKNOWN_KEY: &str = "an unknown key";
/// Start of `allowed` for an unknown key that resembles a known one.
pub(crate) const A_KNOWN_KEY: &str = "a known key";
/// Start of `found` if the text is not JSON.
pub(crate) const INVALID_JSON: &str = "invalid JSON: ";

/// One more step of a JSON pointer, RFC 6901.
pub(crate) fn pointer_step(key: &str) -> String {
    format!("/{}", key.replace('~', "~0").replace('/', "~1"))
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match self.place.as_str() {
            "" => "(top)".to_owned(),
            place => escaped(place),
        };
        let Fault { found, allowed, .. } = self;
        match found.as_str() {
            NOTHING => write!(f, "{place} is required: {allowed}"),
            UNKNOWN_KEY => match allowed.strip_prefix(A_KNOWN_KEY) {
                Some(hint) => write!(f, "{place}: unknown key{hint}"),
                None => write!(f, "{place}: unknown key, allowed: {allowed}"),
            },
            _ if found.starts_with(INVALID_JSON) => write!(f, "{place}: {found}"),
            _ => write!(f, "{place}: found {found}, allowed: {allowed}"),
        }
    }
}

/// Every fault of one document, in document order; never empty when returned as an error.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults(pub Vec<Fault>);

/// How many faults a message spells out; the rest are counted.
const SHOWN: usize = 20;

impl Faults {
    /// Adds one.
    pub fn add(&mut self, place: &str, found: impl fmt::Display, allowed: impl Into<String>) {
        self.0.push(Fault {
            place: place.to_owned(),
            found: shorten(&found.to_string()),
            allowed: allowed.into(),
        });
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().take(SHOWN).enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{fault}")?;
        }
        match self.0.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

impl std::error::Error for Faults {}

/// Keys are the text of strangers too: no control character of one reaches a terminal.
fn escaped(place: &str) -> String {
    let mut text = String::with_capacity(place.len());
    for character in place.chars() {
        match character.is_control() {
            true => text.extend(character.escape_default()),
            false => text.push(character),
        }
    }
    text
}

/// A value as it goes into a message: one line, control characters escaped, at most 80 characters,
/// so that a hostile value can neither flood nor forge a log line.
fn shorten(value: &str) -> String {
    const LONGEST: usize = 80;
    let mut out = String::new();
    for (count, character) in value.chars().enumerate() {
        if count == LONGEST {
            out.push('…');
            break;
        }
        if character.is_control() {
            out.extend(character.escape_default());
        } else {
            out.push(character);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_cannot_forge_a_line() {
        let mut faults = Faults::default();
        faults.add("/a", "x\nreload config success", "an IP address");
        assert!(!faults.to_string().contains('\n'));
    }

    #[test]
    fn a_fault_reads_as_a_sentence() {
        let cases = [
            ("3", "an IP address", "/a: found 3, allowed: an IP address"),
            (NOTHING, "an IP address", "/a is required: an IP address"),
            (
                UNKNOWN_KEY,
                "a known key; did you mean \"port\"?",
                "/a: unknown key; did you mean \"port\"?",
            ),
            (
                UNKNOWN_KEY,
                "one of b, c",
                "/a: unknown key, allowed: one of b, c",
            ),
            (
                "invalid JSON: EOF",
                "a JSON object",
                "/a: invalid JSON: EOF",
            ),
        ];
        for (found, allowed, sentence) in cases {
            let mut faults = Faults::default();
            faults.add("/a", found, allowed);
            assert_eq!(faults.to_string(), sentence);
        }
    }

    #[test]
    fn long_values_are_cut() {
        let mut faults = Faults::default();
        faults.add("/a", "y".repeat(5000), "an IP address");
        assert!(faults.to_string().len() < 200);
    }
}
