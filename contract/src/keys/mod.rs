//! The one table of the optional keys of `proxy_config.json`: name, kind and range, default, meaning, and where a
//! key may stand. The reader, `proxy_server --schema`, `docs/configuration.md` and the console's form come from it
//! (`contract/tests/keys.rs` compares the last two with it).

mod schema;
mod table;

use serde_json::{Map, json};

pub use schema::schema;

use crate::fault::Faults;
use crate::networks::Networks;
use crate::object::Object;

/// A text in English and in Chinese.
pub type Words = (&'static str, &'static str);

/// Keys that belong together.
#[derive(Debug, Clone, Copy)]
pub struct Topic {
    /// What the console's form groups them by.
    pub name: &'static str,
    /// The object that they stand in; `None`: beside the others.
    pub inside: Option<&'static str>,
    /// In the order in which they are shown.
    pub keys: &'static [Key],
}

/// One key.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// As files have it. It ends with its unit: `_ms`, `_us`, `_percent`.
    pub name: &'static str,
    /// Where it may stand; at the top it is the default of all.
    pub place: Place,
    /// What it may be.
    pub kind: Kind,
    /// What it is where nothing is said.
    pub default: Value,
    /// What holds where nothing is said and there is no default.
    pub without: Words,
    /// What it is, in a line.
    pub meaning: Words,
    /// The same for the documentation, as Markdown; empty where `meaning` says it all.
    pub in_full: Words,
}

/// What a key belongs to (ADR 0018).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The process: at the top only.
    Process,
    /// A listener.
    Listener,
    /// A pool.
    Pool,
}

/// What a key may be.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// A whole number, from and to.
    Integer(u64, u64),
    /// A number, from and to.
    Number(f64, f64),
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Printable ASCII without spaces.
    Text,
    /// Text, or bytes in hexadecimal under another key.
    Payload(&'static str),
    /// A list of networks.
    Networks,
    /// The lowest and the highest HTTP status.
    StatusRange,
}

/// The value that a key has by default.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    /// It has none.
    None,
    /// A whole number.
    Integer(u64),
    /// A number.
    Number(f64),
    /// A word.
    Word(&'static str),
    /// From and to.
    Range(u16, u16),
}

impl Value {
    /// `null` where there is none.
    pub fn to_json(self) -> serde_json::Value {
        match self {
            Value::None => json!(null),
            Value::Integer(number) => json!(number),
            Value::Number(number) => json!(number),
            Value::Word(word) => json!(word),
            Value::Range(from, to) => json!([from, to]),
        }
    }
}

/// A row of the table.
const fn key(name: &'static str, place: Place, kind: Kind, default: Value) -> Key {
    Key {
        name,
        place,
        kind,
        default,
        without: ("", ""),
        meaning: ("", ""),
        in_full: ("", ""),
    }
}

impl Key {
    const fn without(self, en: &'static str, zh: &'static str) -> Key {
        Key {
            without: (en, zh),
            ..self
        }
    }

    const fn means(self, en: &'static str, zh: &'static str) -> Key {
        Key {
            meaning: (en, zh),
            ..self
        }
    }

    const fn in_full(self, en: &'static str, zh: &'static str) -> Key {
        Key {
            in_full: (en, zh),
            ..self
        }
    }
}

/// All keys, in the order in which they are shown.
pub fn topics() -> &'static [Topic] {
    table::TOPICS
}

/// What the table gives where nothing is said.
pub(crate) fn by_default<T>(read: impl FnOnce(&mut Object, &mut Faults) -> T) -> T {
    read(&mut Object::new(&Map::new(), ""), &mut Faults::default())
}

/// Reads the keys that stand in one object, with the ranges and defaults of the table. What `inherited` holds comes
/// before the default: it is what the same key says at the top.
pub(crate) struct Reader<'r, 'o> {
    object: &'r mut Object<'o>,
    inside: Option<&'static str>,
    faults: &'r mut Faults,
}

impl<'r, 'o> Reader<'r, 'o> {
    /// Keys that stand beside the others.
    pub(crate) fn new(object: &'r mut Object<'o>, faults: &'r mut Faults) -> Self {
        Reader {
            object,
            inside: None,
            faults,
        }
    }

    /// Keys of the object `name`.
    pub(crate) fn inside(
        name: &'static str,
        object: &'r mut Object<'o>,
        faults: &'r mut Faults,
    ) -> Self {
        let inside = Some(name);
        Reader {
            object,
            inside,
            faults,
        }
    }

    pub(crate) fn integer(&mut self, name: &'static str, inherited: Option<u64>) -> u64 {
        let Value::Integer(default) = self.key(name).default else {
            panic!("{name} has a whole number as its default");
        };
        self.integer_if_any(name, inherited).unwrap_or(default)
    }

    pub(crate) fn integer_if_any(
        &mut self,
        name: &'static str,
        inherited: Option<u64>,
    ) -> Option<u64> {
        let Kind::Integer(min, max) = self.key(name).kind else {
            panic!("{name} is a whole number");
        };
        let said = self.object.take_integer(name, min, max, self.faults);
        said.or(inherited)
    }

    pub(crate) fn number(&mut self, name: &'static str) -> f64 {
        let key = self.key(name);
        let (Kind::Number(min, max), Value::Number(default)) = (key.kind, key.default) else {
            panic!("{name} is a number with a default");
        };
        let Some(said) = self.object.take(name) else {
            return default;
        };
        match said.as_f64() {
            Some(number) if (min..=max).contains(&number) => number,
            _ => {
                let allowed = format!("a number from {min} to {max}");
                self.faults.add(&self.object.pointer(name), said, allowed);
                default
            }
        }
    }

    pub(crate) fn choice<T: Copy>(
        &mut self,
        name: &'static str,
        choices: &[(&'static str, T)],
        inherited: Option<T>,
    ) -> T {
        let key = self.key(name);
        let (Kind::Choice(words), Value::Word(default)) = (key.kind, key.default) else {
            panic!("{name} is a choice with a default");
        };
        debug_assert!(
            choices.iter().map(|(word, _)| word).eq(words),
            "the words of {name}"
        );
        let said = self.object.take_choice(name, choices, self.faults);
        let by_default = || choices.iter().find(|(word, _)| *word == default);
        said.or(inherited)
            .or_else(|| by_default().map(|(_, choice)| *choice))
            .expect("the default is one of the choices")
    }

    pub(crate) fn networks(
        &mut self,
        name: &'static str,
        inherited: Option<&Networks>,
    ) -> Networks {
        let said = Networks::read(self.object, name, self.faults);
        said.unwrap_or_else(|| inherited.cloned().unwrap_or_default())
    }

    fn key(&self, name: &str) -> &'static Key {
        find(self.inside, name)
    }
}

fn find(inside: Option<&str>, name: &str) -> &'static Key {
    let topics = topics().iter().filter(|topic| topic.inside == inside);
    topics
        .flat_map(|topic| topic.keys)
        .find(|key| key.name == name)
        .unwrap_or_else(|| panic!("{name} is in the table"))
}

/// The text that a key of the object `inside` has by default.
pub(crate) fn default_text(inside: &str, name: &str) -> &'static str {
    match find(Some(inside), name).default {
        Value::Word(text) => text,
        _ => panic!("{name} has a text as its default"),
    }
}

/// The range that a key of the object `inside` has by default.
pub(crate) fn default_range(inside: &str, name: &str) -> (u16, u16) {
    match find(Some(inside), name).default {
        Value::Range(from, to) => (from, to),
        _ => panic!("{name} has a range as its default"),
    }
}
