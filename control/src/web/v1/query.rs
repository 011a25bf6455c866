//! Parameters of the query string, with faults like those of bodies.

use std::collections::BTreeMap;

use contract::Faults;

/// The parameters of one request, each asked for by name.
pub struct Query<'a> {
    text: &'a str,
    /// What was asked for so far.
    known: Vec<&'static str>,
    pub faults: Faults,
}

impl<'a> Query<'a> {
    pub fn new(text: Option<&'a str>) -> Query<'a> {
        let text = text.unwrap_or_default();
        let faults = Faults::default();
        let known = Vec::new();
        Query {
            text,
            known,
            faults,
        }
    }

    /// To be called once all parameters were asked for.
    ///
    /// # Errors
    /// All faults. An unknown parameter is one: `?dry_rnu=true` must not make an edit. One that is there
    /// twice is another: nobody can tell which value is meant.
    pub fn end(mut self) -> Result<(), Faults> {
        let names = self.text.split('&').map(|pair| {
            let (name, _) = pair.split_once('=').unwrap_or((pair, ""));
            name
        });
        let mut counts = BTreeMap::<&str, usize>::new();
        for name in names.filter(|name| !name.is_empty()) {
            *counts.entry(name).or_default() += 1;
        }
        for (name, count) in counts {
            let place = format!("?{name}");
            if !self.known.contains(&name) {
                let allowed = format!("one of {}", self.known.join(", "));
                self.faults.add(&place, "an unknown parameter", allowed);
            } else if count > 1 {
                let found = format!("this parameter {count} times");
                self.faults.add(&place, found, "each parameter once");
            }
        }
        match self.faults.is_empty() {
            true => Ok(()),
            false => Err(self.faults),
        }
    }

    /// The value as written; of the characters in cursors, only `:` and brackets need an escape.
    pub fn text(&mut self, name: &'static str) -> Option<String> {
        self.known.push(name);
        let mut pairs = self.text.split('&').filter_map(|pair| pair.split_once('='));
        let (_, value) = pairs.find(|(key, _)| *key == name)?;
        Some(unescape(value))
    }

    pub fn number(&mut self, name: &'static str, default: u64, min: u64, max: u64) -> u64 {
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

    pub fn flag(&mut self, name: &'static str) -> bool {
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

/// Decodes percent escapes of ASCII characters; everything else stays as it is.
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
        assert_eq!(query.end().expect_err("faults").0.len(), 2);
    }

    #[test]
    fn a_parameter_that_nobody_asks_for_or_that_is_there_twice_is_a_fault() {
        for (text, count) in [
            ("", 0),
            ("dry_run=true", 0),
            ("&dry_run=true&", 0),
            ("dry_rnu=true", 1),
            ("dry_run=true&limit", 1),
            ("dry_run=true&dry_run=false", 1),
            ("dry_run=true&&dry_run=true&dry_run", 1),
            ("limit=1&limit=2", 1),
        ] {
            let mut query = Query::new(Some(text));
            query.flag("dry_run");
            let found = query.end().err().map_or(0, |faults| faults.0.len());
            assert_eq!(found, count, "{text:?}");
        }
    }
}
