//! One value in a patch.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What a patch says of one value: nothing (the key is absent), `null`, or a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Part<T> {
    /// It stays as it is.
    #[default]
    Keep,
    /// It is cleared, so weaker sources decide.
    Clear,
    /// It is set.
    Set(T),
}

impl<T> Part<T> {
    /// For `skip_serializing_if`.
    pub fn is_keep(&self) -> bool {
        matches!(self, Part::Keep)
    }
}

/// The patch that leads to exactly this.
impl<T> From<Option<T>> for Part<T> {
    fn from(value: Option<T>) -> Part<T> {
        value.map_or(Part::Clear, Part::Set)
    }
}

impl<T: Serialize> Serialize for Part<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Part::Keep | Part::Clear => serializer.serialize_none(),
            Part::Set(value) => value.serialize(serializer),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Part<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Part<T>, D::Error> {
        Option::deserialize(deserializer).map(Part::from)
    }
}

impl<T: JsonSchema> JsonSchema for Part<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        Option::<T>::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Option::<T>::json_schema(generator)
    }
}

#[cfg(test)]
mod tests {
    use crate::v1::OverridePatch;

    use super::Part;

    #[test]
    fn an_absent_key_keeps_null_clears_and_a_value_sets() {
        let text = r#"{"weight":5,"drain":null}"#;
        let patch: OverridePatch = serde_json::from_str(text).expect("a patch");
        let expected = OverridePatch {
            weight: Part::Set(5),
            enabled: Part::Keep,
            drain: Part::Clear,
        };
        assert_eq!(patch, expected);
        assert_eq!(serde_json::to_string(&patch).expect("JSON"), text);
    }
}
