//! A fault in something written by hand or by another program: where, what, and what is allowed.

use std::fmt;

/// One fault. `place` is an RFC 6901 JSON pointer, or a line and column where the text is not
/// JSON at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub place: String,
    /// The offending value as written, shortened.
    pub found: String,
    /// What would have been right there.
    pub allowed: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if self.place.is_empty() {
            "(top)"
        } else {
            &self.place
        };
        write!(
            f,
            "{place}: found {}, allowed: {}",
            self.found, self.allowed
        )
    }
}

/// Every fault of one document, in document order; never empty when returned as an error.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults(pub Vec<Fault>);

/// How many faults a message spells out; the rest are counted.
const SHOWN: usize = 20;

impl Faults {
    pub fn add(&mut self, place: &str, found: impl fmt::Display, allowed: impl Into<String>) {
        self.0.push(Fault {
            place: place.to_owned(),
            found: shorten(&found.to_string()),
            allowed: allowed.into(),
        });
    }

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
    fn long_values_are_cut() {
        let mut faults = Faults::default();
        faults.add("/a", "y".repeat(5000), "an IP address");
        assert!(faults.to_string().len() < 200);
    }
}
