//! The text formats of Prometheus and OpenMetrics, as far as gauges go: `name{label="value", ...} value
//! [timestamp] [# exemplar]`, a sample a line
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>, `OpenMetrics.md` of the same project).
//!
//! A document is read as a stream, line by line, and only the wanted names are kept: an
//! answer may be far larger than the memory of this program. Only those labels are kept that choose among
//! samples ([`KEPT`]); the others become one number that distinguishes samples.
//!
//! Nothing is guessed. A document that ends within a line was cut, and how many lines are missing
//! cannot be known, so none of it counts; a wanted name with a line that is no sample is named.

use std::borrow::Cow;
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, BufRead as _, Read};

/// The most samples of wanted names: a thousand models or ranks of a dozen names each.
pub const MAX_SAMPLES: usize = 12_000;
/// The most labels of one sample.
pub const MAX_LABELS: usize = 64;
/// The longest line of a wanted name. Other lines may be of any length.
pub const MAX_LINE_BYTES: usize = 32 << 10;
/// The longest value of a label in [`KEPT`].
const MAX_KEPT_BYTES: usize = 128;
/// The most that the values of such labels hold in all.
const MAX_KEPT_IN_ALL: usize = 2 << 20;

/// The labels that choose among samples: the devices of exporters, the kinds of Triton's backend, and
/// the priorities of SGLang.
const KEPT: [&str; 11] = [
    "gpu",
    "UUID",
    "uuid",
    "gpu_uuid",
    "GPU_I_ID",
    "gpu_id",
    "gpu_use_percent",
    "card",
    "request_type",
    "kv_cache_block_type",
    "priority",
];

/// Labels in which copies of one thing differ: each rank of an engine reports the queue of the whole
/// engine.
const COPIES: [&str; 3] = ["tp_rank", "pp_rank", "moe_ep_rank"];

/// The wanted samples of one document.
#[derive(Debug, Default)]
pub struct Exposition {
    samples: Vec<Sample>,
    /// Names with lines that are no sample, and how many.
    malformed: Vec<(&'static str, usize)>,
    /// Whether the document began with a byte order mark, which no format of metrics allows.
    pub has_mark: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    pub name: &'static str,
    labels: Vec<(&'static str, Box<str>)>,
    /// The same for samples whose labels are the same, copies of one thing included.
    pub thing: u64,
    pub value: f64,
}

impl Sample {
    /// The value of one of the labels in [`KEPT`].
    pub fn label(&self, name: &str) -> Option<&str> {
        let mut labels = self.labels.iter();
        labels
            .find(|(label, _)| *label == name)
            .map(|(_, value)| value.as_ref())
    }
}

/// Why a document could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("more than {MAX_SAMPLES} samples of the metrics that the agent reads")]
    TooMany,
    #[error("more than {MAX_KEPT_IN_ALL} bytes of labels on the metrics that the agent reads")]
    TooLarge,
    #[error("none of the expected metrics is in the answer")]
    Nothing,
    #[error("the answer ends within a line, so all of it is ignored")]
    Cut,
}

impl Exposition {
    /// Reads the samples of the `wanted` names, to the end of the document.
    ///
    /// # Errors
    /// Where it cannot be read to its end, holds none of the names, or more than [`MAX_SAMPLES`].
    pub fn read(document: impl Read, wanted: &[&'static str]) -> Result<Exposition, ReadError> {
        let mut reader = Reader {
            exposition: Exposition::default(),
            hasher: RandomState::new(),
            wanted,
            kept_bytes: 0,
        };
        let mut lines = Lines::new(document);
        let mut is_first = true;
        let is_whole = loop {
            let Some(line) = lines.next()? else {
                break true;
            };
            let mut bytes = line.bytes;
            if std::mem::take(&mut is_first) && bytes.starts_with(MARK) {
                reader.exposition.has_mark = true;
                bytes = &bytes[MARK.len()..];
            }
            if !line.is_ended {
                // The last line of OpenMetrics, which proves that the document is complete, may lack its line end.
                break bytes == b"# EOF";
            }
            reader.take(bytes, line.is_whole)?;
        };
        let exposition = reader.exposition;
        if exposition.samples.is_empty() && exposition.malformed.is_empty() {
            return Err(ReadError::Nothing);
        }
        match is_whole {
            true => Ok(exposition),
            false => Err(ReadError::Cut),
        }
    }

    /// The samples of one name, in the document's order.
    pub fn of<'e>(&'e self, name: &'e str) -> impl Iterator<Item = &'e Sample> {
        self.samples
            .iter()
            .filter(move |sample| sample.name == name)
    }

    /// Whether there are lines of this name, samples or not.
    pub fn has(&self, name: &str) -> bool {
        self.of(name).next().is_some() || self.malformed(name) > 0
    }

    /// How many lines of this name are no samples.
    pub fn malformed(&self, name: &str) -> usize {
        let mut counts = self.malformed.iter();
        counts.find(|(of, _)| *of == name).map_or(0, |(_, n)| *n)
    }

    /// What is wrong with the lines of the wanted names, in words.
    pub fn faults(&self) -> impl Iterator<Item = String> {
        let counts = self.malformed.iter();
        counts.map(|(name, count)| format!("{name}: {count} malformed lines"))
    }
}

/// The byte order mark, as UTF-8 writes it.
const MARK: &[u8] = "\u{feff}".as_bytes();

struct Reader<'w> {
    exposition: Exposition,
    hasher: RandomState,
    wanted: &'w [&'static str],
    /// In the labels of all samples so far.
    kept_bytes: usize,
}

impl Reader<'_> {
    /// Takes a line, or, where it is not whole, the beginning of one that is too long.
    fn take(&mut self, line: &[u8], is_whole: bool) -> Result<(), ReadError> {
        let line = line.trim_ascii_start();
        let (name, rest) = line.split_at(name_length(line));
        let mut wanted = self.wanted.iter();
        let Some(name) = wanted.find(|wanted| wanted.as_bytes() == name) else {
            return Ok(());
        };
        let rest = String::from_utf8_lossy(rest);
        let sample = is_whole.then(|| self.sample(name, &rest)).flatten();
        let labels = sample.iter().flat_map(|sample| &sample.labels);
        self.kept_bytes += labels.map(|(_, value)| value.len()).sum::<usize>();
        if self.kept_bytes > MAX_KEPT_IN_ALL {
            return Err(ReadError::TooLarge);
        }
        let exposition = &mut self.exposition;
        match sample {
            Some(_) if exposition.samples.len() == MAX_SAMPLES => return Err(ReadError::TooMany),
            Some(sample) => exposition.samples.push(sample),
            None => {
                let mut counts = exposition.malformed.iter_mut();
                match counts.find(|(of, _)| of == name) {
                    Some((_, count)) => *count += 1,
                    None => exposition.malformed.push((name, 1)),
                }
            }
        }
        Ok(())
    }

    /// The labels, the value and maybe a time, which is of no use here: what a scrape answers is now.
    fn sample(&self, name: &'static str, rest: &str) -> Option<Sample> {
        let rest = rest.trim_start();
        let (mut pairs, rest) = match rest.strip_prefix('{') {
            Some(inside) => read_labels(inside)?,
            None => (Vec::new(), rest),
        };
        let value = rest.split_ascii_whitespace().next()?.parse().ok()?;
        let mut labels = Vec::new();
        for kept in KEPT {
            if let Some((_, value)) = pairs.iter().find(|(label, _)| *label == kept) {
                if value.len() > MAX_KEPT_BYTES {
                    return None;
                }
                labels.push((kept, Box::from(value.as_ref())));
            }
        }
        pairs.retain(|(label, _)| !COPIES.contains(label));
        pairs.sort_unstable();
        Some(Sample {
            name,
            labels,
            thing: self.hasher.hash_one(&pairs),
            value,
        })
    }
}

fn name_length(text: &[u8]) -> usize {
    let in_name = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(**byte, b'_' | b':');
    text.iter().take_while(in_name).count()
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
        let (name, behind) = rest.split_at(name_length(rest.as_bytes()));
        let quoted = behind.trim_start().strip_prefix('=')?.trim_start();
        let (value, behind) = read_quoted(quoted.strip_prefix('"')?)?;
        if name.is_empty() {
            return None;
        }
        labels.push((name, value));
        rest = behind.trim_start();
        // A comma may follow the last label too.
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

/// A document's lines, in one buffer of a fixed size.
struct Lines<R> {
    document: R,
    buffer: Box<[u8]>,
    /// What of the buffer is read and not yet handed out.
    begin: usize,
    end: usize,
}

struct Line<'b> {
    /// Without the line's end.
    bytes: &'b [u8],
    /// False for the beginning of a line that is longer than [`MAX_LINE_BYTES`].
    is_whole: bool,
    /// False where the document ends without a line feed.
    is_ended: bool,
}

impl<R: Read> Lines<R> {
    fn new(document: R) -> Lines<R> {
        Lines {
            document,
            buffer: vec![0; MAX_LINE_BYTES].into_boxed_slice(),
            begin: 0,
            end: 0,
        }
    }

    /// The next line; `None` at the end of the document.
    fn next(&mut self) -> io::Result<Option<Line<'_>>> {
        let mut searched = self.begin;
        loop {
            if let Some(length) = find_feed(&self.buffer[searched..self.end]) {
                let (begin, feed) = (self.begin, searched + length);
                self.begin = feed + 1;
                return Ok(Some(self.line(begin, feed, true, true)));
            }
            if self.begin > 0 {
                self.buffer.copy_within(self.begin..self.end, 0);
                self.end -= self.begin;
                self.begin = 0;
            }
            searched = self.end;
            if self.end == self.buffer.len() {
                return self.long_line().map(Some);
            }
            if self.fill()? == 0 {
                let end = std::mem::take(&mut self.end);
                return Ok((end > 0).then(|| self.line(0, end, true, false)));
            }
        }
    }

    /// A line that fills the buffer: its beginning is handed out, and the rest skipped. The bytes after it
    /// overwrite the end of that beginning, which is not needed.
    fn long_line(&mut self) -> io::Result<Line<'_>> {
        let kept = self.buffer.len() / 2;
        loop {
            self.end = kept;
            let length = self.fill()?;
            if length == 0 {
                self.end = 0;
                return Ok(self.line(0, kept, false, false));
            }
            if let Some(feed) = find_feed(&self.buffer[kept..kept + length]) {
                self.begin = kept + feed + 1;
                return Ok(self.line(0, kept, false, true));
            }
        }
    }

    fn line(&self, begin: usize, end: usize, is_whole: bool, is_ended: bool) -> Line<'_> {
        Line {
            bytes: &self.buffer[begin..end],
            is_whole,
            is_ended,
        }
    }

    /// Reads more behind what is there.
    fn fill(&mut self) -> io::Result<usize> {
        loop {
            match self.document.read(&mut self.buffer[self.end..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
                Ok(length) => {
                    self.end += length;
                    return Ok(length);
                }
            }
        }
    }
}

/// Where the next line feed is. The standard library's own search is fast in debug builds too.
fn find_feed(bytes: &[u8]) -> Option<usize> {
    let mut rest = bytes;
    let passed = rest.skip_until(b'\n').expect("a slice can be read");
    let last = passed.checked_sub(1)?;
    (bytes[last] == b'\n').then_some(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &[u8], name: &'static str) -> Result<Exposition, ReadError> {
        Exposition::read(text, &[name])
    }

    /// The labels of the line's own text, and the value.
    fn one(text: &str) -> (Vec<(String, String)>, f64) {
        let exposition = parse(format!("{text}\n").as_bytes(), "a:b").expect("a sample");
        assert_eq!(exposition.samples.len(), 1, "{text:?}");
        let rest = text.trim_start().strip_prefix("a:b").expect("its name");
        let labels = match rest.trim_start().strip_prefix('{') {
            Some(inside) => read_labels(inside).expect("labels").0,
            None => Vec::new(),
        };
        let labels = labels.into_iter();
        let labels = labels.map(|(name, value)| (name.to_owned(), value.into_owned()));
        (labels.collect(), exposition.samples[0].value)
    }

    #[test]
    fn samples_are_read_in_every_form_that_the_formats_allow() {
        assert_eq!(one("a:b 3"), (vec![], 3.0));
        assert_eq!(one("  a:b\t3.5e1 1730000000000\r"), (vec![], 35.0));
        assert_eq!(one("a:b 3 1730000000.123"), (vec![], 3.0));
        assert_eq!(one("a:b{} 1"), (vec![], 1.0));
        let label = |value: &str| vec![("x".to_owned(), value.to_owned())];
        assert_eq!(one(r#"a:b{x="1"} +Inf"#), (label("1"), f64::INFINITY));
        assert_eq!(one(r#"a:b { x = "1" , } 2"#), (label("1"), 2.0));
        assert_eq!(one(r#"a:b{x="}\"\\\n{"} 2"#), (label("}\"\\\n{"), 2.0));
        assert_eq!(
            one(r#"a:b{x="节点"} 2 # {y="z"} 1 3.5"#),
            (label("节点"), 2.0)
        );
        assert!(one("a:b NaN").1.is_nan());
    }

    #[test]
    fn other_names_comments_and_empty_lines_are_passed_over() {
        let text =
            "# HELP a help\n# TYPE a stateset\n\na_total 1\naa 2\n{x=\"1\"} 3\na 4\r\n# EOF\n";
        let values = |text: &str| -> Vec<f64> {
            let exposition = parse(text.as_bytes(), "a").expect("a sample");
            exposition.of("a").map(|sample| sample.value).collect()
        };
        assert_eq!(values(text), [4.0]);
        assert_eq!(
            values(text.trim_end()),
            [4.0],
            "OpenMetrics says that it is whole"
        );
        assert_eq!(values(&format!("\u{feff}a 1\n{text}")), [1.0, 4.0]);
    }

    #[test]
    fn samples_are_told_apart_by_all_labels_but_those_of_copies() {
        let things = |text: &str| -> Vec<u64> {
            let exposition = parse(text.as_bytes(), "a").expect("samples");
            exposition.of("a").map(|sample| sample.thing).collect()
        };
        let found = things(
            "a{x=\"1\",tp_rank=\"0\",y=\"\"} 1\na{y=\"\",x=\"1\",tp_rank=\"1\"} 1\na{x=\"2\",y=\"\"} 1\na 1\n",
        );
        assert_eq!(found[0], found[1]);
        assert!(found[1] != found[2] && found[2] != found[3] && found[0] != found[3]);
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
        let malformed = |text: &str| {
            let exposition = parse(text.as_bytes(), "a").expect("lines of it");
            assert!(exposition.samples.is_empty() && exposition.has("a"));
            exposition.malformed("a")
        };
        assert_eq!(malformed(&(bad.join("\n") + "\n")), bad.len());
        let many = "x=\"1\",".repeat(MAX_LABELS + 1);
        assert_eq!(malformed(&format!("a{{{many}}} 1\n")), 1);
        let long = "x".repeat(MAX_KEPT_BYTES + 1);
        assert_eq!(malformed(&format!("a{{gpu=\"{long}\"}} 1\n")), 1);
        let long = "x".repeat(3 * MAX_LINE_BYTES);
        assert_eq!(malformed(&format!("a{{x=\"{long}\"}} 1\na y\n")), 2);
    }

    #[test]
    fn long_lines_of_others_cost_only_themselves() {
        for length in [
            MAX_LINE_BYTES - 2,
            MAX_LINE_BYTES - 1,
            MAX_LINE_BYTES,
            MAX_LINE_BYTES + 1,
            5 * MAX_LINE_BYTES,
        ] {
            let text = format!("a 1\nb{}\na 2\n", "x".repeat(length));
            let exposition = parse(text.as_bytes(), "a").expect("samples");
            let values: Vec<f64> = exposition.of("a").map(|sample| sample.value).collect();
            assert_eq!(values, [1.0, 2.0], "{length}");
        }
    }

    #[test]
    fn a_document_that_ends_within_a_line_is_not_used() {
        for cut in ["a 1\na 12", "a 1\n# EO", "a 1\n# EOF ", "a 1\n# HEL"] {
            assert!(
                matches!(parse(cut.as_bytes(), "a"), Err(ReadError::Cut)),
                "{cut:?}"
            );
        }
        let long = format!("a 1\nb{}", "x".repeat(2 * MAX_LINE_BYTES));
        assert!(matches!(parse(long.as_bytes(), "a"), Err(ReadError::Cut)));
    }

    #[test]
    fn the_number_of_samples_is_bounded() {
        let text = "a 1\n".repeat(MAX_SAMPLES);
        assert!(parse(text.as_bytes(), "a").is_ok());
        let text = text + "a 1\n";
        assert!(matches!(
            parse(text.as_bytes(), "a"),
            Err(ReadError::TooMany)
        ));
        assert!(matches!(
            parse(text.as_bytes(), "b"),
            Err(ReadError::Nothing)
        ));
    }

    #[test]
    fn what_is_kept_of_labels_is_bounded() {
        let value = "x".repeat(MAX_KEPT_BYTES);
        let labels = KEPT.map(|label| format!("{label}=\"{value}\"")).join(",");
        let rows = MAX_KEPT_IN_ALL / (KEPT.len() * MAX_KEPT_BYTES);
        let text = format!("a{{{labels}}} 1\n").repeat(rows);
        assert!(parse(text.as_bytes(), "a").is_ok());
        let text = format!("{text}{text}");
        let read = parse(text.as_bytes(), "a");
        assert!(matches!(read, Err(ReadError::TooLarge)));
    }

    /// Answers with a few bytes at a time.
    struct Dripping<'a>(&'a [u8], usize);

    impl Read for Dripping<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = self.1.min(buffer.len()).min(self.0.len());
            buffer[..length].copy_from_slice(&self.0[..length]);
            self.0 = &self.0[length..];
            Ok(length)
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[a{}=\",\\\\ \\n0-9x#节.+eE-]{0,200}") {
            let _ = Exposition::read(text.as_bytes(), &["a", "x"]);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(0u8.., 0..300)) {
            let _ = Exposition::read(bytes.as_slice(), &["a"]);
        }

        #[test]
        fn what_is_written_by_the_rules_is_read_back_however_it_arrives(
            labels in prop::collection::vec(("[a-z_][a-z0-9_]{0,8}", "(?s).{0,20}"), 0..6),
            value in -1e12f64..1e12,
            step in 1..40usize,
        ) {
            let escape = |text: &str| {
                text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
            };
            let written: Vec<String> = labels
                .iter()
                .map(|(name, value)| format!("{name}=\"{}\"", escape(value)))
                .collect();
            let inside = format!("{}}} {value}", written.join(","));
            let (read, _) = read_labels(&inside).expect("labels");
            let read: Vec<(String, String)> = read
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value.into_owned()))
                .collect();
            prop_assert_eq!(&read, &labels);
            let text = format!("# HELP m:x\nm:x{{{inside}\n");
            let exposition = Exposition::read(Dripping(text.as_bytes(), step), &["m:x"]);
            let exposition = exposition.expect("a sample");
            prop_assert_eq!(exposition.samples[0].value, value);
        }
    }
}
