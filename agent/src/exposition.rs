//! The Prometheus text format, as far as gauges go: `name{label="value", ...} value [timestamp]`, a
//! sample a line (<https://prometheus.io/docs/instrumenting/exposition_formats/>).
//!
//! The one kept crate for it goes through every line with regular expressions and passes over bad
//! ones in silence. Here only the wanted names are read, bad lines among them are counted, and the
//! work is bounded by the caller's limit on bytes and by [`MAX_SAMPLES`] and [`MAX_LABELS`].

use std::borrow::Cow;

/// The most samples of wanted names: a thousand models or ranks of a dozen names each.
pub const MAX_SAMPLES: usize = 12_000;
/// The most labels of one sample.
pub const MAX_LABELS: usize = 64;

/// The wanted samples of one document.
#[derive(Debug, Default, PartialEq)]
pub struct Exposition<'a> {
    samples: Vec<Sample<'a>>,
    /// Lines that begin with a wanted name and are no sample.
    pub malformed: usize,
}

#[derive(Debug, PartialEq)]
pub struct Sample<'a> {
    pub name: &'a str,
    pub labels: Vec<(&'a str, Cow<'a, str>)>,
    pub value: f64,
}

impl Sample<'_> {
    pub fn label(&self, name: &str) -> Option<&str> {
        let mut labels = self.labels.iter();
        labels
            .find(|(label, _)| *label == name)
            .map(|(_, value)| value.as_ref())
    }
}

impl<'a> Exposition<'a> {
    /// Reads the samples of the `wanted` names.
    ///
    /// # Errors
    /// In words, where there are more than [`MAX_SAMPLES`].
    pub fn parse(text: &'a str, wanted: &[&str]) -> Result<Exposition<'a>, String> {
        let mut exposition = Exposition::default();
        for line in text.lines().map(str::trim_start) {
            let Some((name, rest)) = take_name(line).filter(|(name, _)| wanted.contains(name))
            else {
                continue;
            };
            let Some(sample) = read_sample(name, rest) else {
                exposition.malformed += 1;
                continue;
            };
            if exposition.samples.len() == MAX_SAMPLES {
                return Err(format!(
                    "more than {MAX_SAMPLES} samples, allowed: at most that many"
                ));
            }
            exposition.samples.push(sample);
        }
        Ok(exposition)
    }

    /// Whether none of the wanted names is there.
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// The samples of one name, in the document's order.
    pub fn of<'e>(&'e self, name: &'e str) -> impl Iterator<Item = &'e Sample<'a>> {
        self.samples
            .iter()
            .filter(move |sample| sample.name == name)
    }
}

fn take_name(line: &str) -> Option<(&str, &str)> {
    let in_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':');
    let length = line.bytes().take_while(in_name).count();
    (length > 0).then(|| line.split_at(length))
}

/// The labels, the value and maybe a time, which is of no use here: what a scrape answers is now.
fn read_sample<'a>(name: &'a str, rest: &'a str) -> Option<Sample<'a>> {
    let rest = rest.trim_start();
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(inside) => read_labels(inside)?,
        None => (Vec::new(), rest),
    };
    let value = rest.split_ascii_whitespace().next()?.parse().ok()?;
    Some(Sample {
        name,
        labels,
        value,
    })
}

type Labels<'a> = Vec<(&'a str, Cow<'a, str>)>;

/// From behind the opening brace to behind the closing one.
fn read_labels(mut rest: &str) -> Option<(Labels<'_>, &str)> {
    let mut labels = Vec::new();
    loop {
        rest = rest.trim_start();
        if let Some(behind) = rest.strip_prefix('}') {
            return Some((labels, behind));
        }
        if labels.len() == MAX_LABELS {
            return None;
        }
        let (name, behind) = take_name(rest)?;
        let quoted = behind.trim_start().strip_prefix('=')?.trim_start();
        let (value, behind) = read_quoted(quoted.strip_prefix('"')?)?;
        labels.push((name, value));
        rest = behind.trim_start();
        // A comma may stand behind the last label too.
        match rest.strip_prefix(',') {
            Some(behind) => rest = behind,
            None if rest.starts_with('}') => {}
            None => return None,
        }
    }
}

/// From behind the opening quote to behind the closing one.
fn read_quoted(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let end = text.find(['"', '\\'])?;
    if text.as_bytes()[end] == b'"' {
        return Some((Cow::Borrowed(&text[..end]), &text[end + 1..]));
    }
    let mut value = String::from(&text[..end]);
    let mut letters = text[end..].char_indices();
    while let Some((index, letter)) = letters.next() {
        match letter {
            '"' => return Some((Cow::Owned(value), &text[end + index + 1..])),
            '\\' => match letters.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read<'a>(text: &'a str, name: &'static str) -> Vec<(Vec<(&'a str, String)>, f64)> {
        let exposition = Exposition::parse(text, &[name]).expect("few samples");
        let samples = exposition.samples.into_iter().map(|sample| {
            let labels = sample.labels.into_iter();
            let labels = labels.map(|(name, value)| (name, value.into_owned()));
            (labels.collect(), sample.value)
        });
        samples.collect()
    }

    #[test]
    fn samples_are_read_in_every_form_that_the_format_allows() {
        let one = |text| {
            let samples = read(text, "a:b");
            assert_eq!(samples.len(), 1, "{text:?}");
            samples[0].clone()
        };
        assert_eq!(one("a:b 3"), (vec![], 3.0));
        assert_eq!(one("  a:b\t3.5e1 1730000000000\r"), (vec![], 35.0));
        assert_eq!(one("a:b{} 1"), (vec![], 1.0));
        let label = |value: &str| vec![("x", value.to_owned())];
        assert_eq!(one(r#"a:b{x="1"} +Inf"#), (label("1"), f64::INFINITY));
        assert_eq!(one(r#"a:b { x = "1" , } 2"#), (label("1"), 2.0));
        assert_eq!(one(r#"a:b{x="}\"\\\n{"} 2"#), (label("}\"\\\n{"), 2.0));
        assert_eq!(one(r#"a:b{x="节点"} 2 # {y="z"} 1"#), (label("节点"), 2.0));
        assert!(one("a:b NaN").1.is_nan());
    }

    #[test]
    fn other_names_comments_and_empty_lines_are_passed_over() {
        let text = "# HELP a help\n# TYPE a gauge\n\na_total 1\naa 2\n{x=\"1\"} 3\na 4\n# EOF\n";
        assert_eq!(read(text, "a"), [(vec![], 4.0)]);
    }

    #[test]
    fn bad_lines_of_a_wanted_name_are_counted() {
        let bad = [
            "a",
            "a ",
            "a x",
            "a{",
            "a{x} 1",
            "a{x=1} 1",
            "a{x=\"1} 1",
            "a{x=\"1\\",
            "a{x=\"1\"y=\"2\"} 1",
            "a{,} 1",
            "a{x=\"1\"}",
            "a=1",
        ];
        let text = bad.join("\n");
        let exposition = Exposition::parse(&text, &["a"]).expect("few samples");
        assert_eq!(
            (exposition.samples.len(), exposition.malformed),
            (0, bad.len())
        );
        let many = "x=\"1\",".repeat(MAX_LABELS + 1);
        assert_eq!(read(&format!("a{{{many}}} 1"), "a").len(), 0);
    }

    #[test]
    fn the_number_of_samples_is_bounded() {
        let text = "a 1\n".repeat(MAX_SAMPLES);
        assert!(Exposition::parse(&text, &["a"]).is_ok());
        let text = text + "a 1\n";
        assert!(Exposition::parse(&text, &["a"]).is_err());
        assert!(Exposition::parse(&text, &["b"]).is_ok());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[a{}=\",\\\\ \\n0-9x#节.+eE-]{0,200}") {
            let _ = Exposition::parse(&text, &["a", "x"]);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(0u8.., 0..300)) {
            let _ = Exposition::parse(&String::from_utf8_lossy(&bytes), &["a"]);
        }

        #[test]
        fn what_is_written_by_the_rules_is_read_back(
            labels in prop::collection::vec(("[a-z_][a-z0-9_]{0,8}", "(?s).{0,20}"), 0..6),
            value in -1e12f64..1e12,
        ) {
            let escape = |text: &str| {
                text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
            };
            let written: Vec<String> = labels
                .iter()
                .map(|(name, value)| format!("{name}=\"{}\"", escape(value)))
                .collect();
            let text = format!("m:x{{{}}} {value}\n", written.join(","));
            let expected: Vec<(&str, String)> = labels
                .iter()
                .map(|(name, value)| (name.as_str(), value.clone()))
                .collect();
            prop_assert_eq!(read(&text, "m:x"), vec![(expected, value)]);
        }
    }
}
