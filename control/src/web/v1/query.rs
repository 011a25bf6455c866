//! Parameters of the query string, with faults like those of bodies.

use contract::Faults;

/// The parameters of one request, each asked for by name.
pub struct Query<'a> {
    text: &'a str,
    pub faults: Faults,
}

impl<'a> Query<'a> {
    pub fn new(text: Option<&'a str>) -> Query<'a> {
        let text = text.unwrap_or_default();
        let faults = Faults::default();
        Query { text, faults }
    }

    /// The value as it stands; the characters of our cursors need no escape but `:` and brackets.
    pub fn text(&self, name: &str) -> Option<String> {
        let mut pairs = self.text.split('&').filter_map(|pair| pair.split_once('='));
        let (_, value) = pairs.find(|(key, _)| *key == name)?;
        Some(unescape(value))
    }

    pub fn number(&mut self, name: &str, default: u64, min: u64, max: u64) -> u64 {
        let Some(text) = self.text(name) else {
            return default;
        };
        match text.parse::<u64>() {
            Ok(number) if (min..=max).contains(&number) => number,
            Ok(_) | Err(_) => {
                let allowed = format!("an integer from {min} to {max}");
                self.faults.add(&format!("?{name}"), text, allowed);
                default
            }
        }
    }

    pub fn flag(&mut self, name: &str) -> bool {
        match self.text(name).as_deref() {
            None | Some("false") => false,
            Some("true") => true,
            Some(text) => {
                self.faults.add(&format!("?{name}"), text, "true or false");
                false
            }
        }
    }
}

/// Percent escapes of ASCII characters; what is none stays as it is.
fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        plain.push_str(&rest[..at]);
        let code = rest.get(at + 1..at + 3);
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) if byte.is_ascii() => {
                plain.push(char::from(byte));
                rest = &rest[at + 3..];
            }
            Some(_) | None => {
                plain.push('%');
                rest = &rest[at + 1..];
            }
        }
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_unescaped_and_bounded() {
        let mut query = Query::new(Some(
            "cursor=%5B%3A%3A1%5D:80&limit=7&follow=maybe&odd=%zz%",
        ));
        assert_eq!(query.text("cursor").as_deref(), Some("[::1]:80"));
        assert_eq!(query.text("odd").as_deref(), Some("%zz%"));
        assert_eq!(query.number("limit", 1, 1, 10), 7);
        assert!(query.faults.is_empty());
        assert_eq!(query.number("limit", 1, 8, 10), 1);
        assert!(!query.flag("follow") && query.faults.0.len() == 2);
    }
}
