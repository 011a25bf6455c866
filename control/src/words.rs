//! Words that depend on a number.

/// How many, with the right word.
pub fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// The same of what takes an `s`.
pub fn many(count: usize, one: &str) -> String {
    counted(count, one, &format!("{one}s"))
}
