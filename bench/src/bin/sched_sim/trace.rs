//! Traces of real services as arrivals and job sizes. A file that is wrong anywhere is refused, with
//! the line, what stands there and what is allowed.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde::Deserialize;

use crate::workload::Arrival;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// CSV: TIMESTAMP,ContextTokens,GeneratedTokens (Azure Public Dataset)
    Azure,
    /// JSON lines: timestamp (ms), input_length, output_length (Mooncake)
    Mooncake,
}

/// What tokens cost.
#[derive(Debug, Clone, Copy)]
pub struct Costs {
    pub prompt_s: f64,
    pub token_s: f64,
    pub vram_per_token: f64,
}

#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    #[error("{path}: {error}")]
    Unreadable {
        path: PathBuf,
        error: std::io::Error,
    },
    #[error("{path}, line {line}: found {found:?}, allowed: {allowed}")]
    Malformed {
        path: PathBuf,
        line: usize,
        found: String,
        allowed: &'static str,
    },
    #[error("{path}: found {found} requests, allowed: at least {FEWEST}, not all at one time")]
    TooShort { path: PathBuf, found: usize },
}

/// Fewer make no 99th percentile.
const FEWEST: usize = 100;
/// As much of a wrong line as a message shows.
const SHOWN: usize = 80;

struct Row {
    at_s: f64,
    prompt: f64,
    generated: f64,
}

/// The arrivals of the file at `path`, in order of time, the first at 0.
pub fn read(path: &Path, format: Format, costs: &Costs) -> Result<Vec<Arrival>, TraceError> {
    let text = std::fs::read_to_string(path).map_err(|error| TraceError::Unreadable {
        path: path.to_owned(),
        error,
    })?;
    let rows = rows(&text, format).map_err(|Malformed { line, allowed }| {
        let found = text.lines().nth(line - 1).unwrap_or_default();
        TraceError::Malformed {
            path: path.to_owned(),
            line,
            found: found.chars().take(SHOWN).collect(),
            allowed,
        }
    })?;
    let mut arrivals: Vec<Arrival> = rows
        .iter()
        .map(|row| Arrival {
            at: row.at_s,
            work: row.prompt * costs.prompt_s + row.generated * costs.token_s,
            memory: (row.prompt + row.generated) * costs.vram_per_token,
        })
        .collect();
    arrivals.sort_by(|a, b| a.at.total_cmp(&b.at));
    let (first, last) = match (arrivals.first(), arrivals.last()) {
        (Some(first), Some(last)) => (first.at, last.at),
        _ => (0.0, 0.0),
    };
    let has_work = arrivals.iter().any(|arrival| arrival.work > 0.0);
    if arrivals.len() < FEWEST || first == last || !has_work {
        return Err(TraceError::TooShort {
            path: path.to_owned(),
            found: arrivals.len(),
        });
    }
    arrivals.iter_mut().for_each(|arrival| arrival.at -= first);
    Ok(arrivals)
}

/// A line, from 1, and what is allowed there.
#[derive(Debug, PartialEq)]
struct Malformed {
    line: usize,
    allowed: &'static str,
}

fn rows(text: &str, format: Format) -> Result<Vec<Row>, Malformed> {
    let mut lines = (1..).zip(text.lines());
    if format == Format::Azure {
        let header = lines.next().map(|(_, header)| header).unwrap_or_default();
        let columns = header
            .trim_start_matches('\u{feff}')
            .split(',')
            .map(str::trim);
        if !columns.eq(["TIMESTAMP", "ContextTokens", "GeneratedTokens"]) {
            let allowed = "the header TIMESTAMP,ContextTokens,GeneratedTokens";
            return Err(Malformed { line: 1, allowed });
        }
    }
    let filled = lines.filter(|(_, text)| !text.trim().is_empty());
    let read = |(line, text): (usize, &str)| {
        let (row, allowed) = match format {
            Format::Azure => (azure(text), AZURE_ROW),
            Format::Mooncake => (mooncake(text), MOONCAKE_ROW),
        };
        let is_good = |row: &Row| row.at_s >= 0.0 && row.prompt >= 0.0 && row.generated >= 0.0;
        row.filter(is_good).ok_or(Malformed { line, allowed })
    };
    filled.map(read).collect()
}

const AZURE_ROW: &str = "YYYY-MM-DD HH:MM:SS[.fraction],tokens,tokens";
const MOONCAKE_ROW: &str =
    "{\"timestamp\": ms, \"input_length\": tokens, \"output_length\": tokens}";

fn azure(line: &str) -> Option<Row> {
    let mut columns = line.split(',').map(str::trim);
    let (time, prompt, generated) = (columns.next()?, columns.next()?, columns.next()?);
    if columns.next().is_some() {
        return None;
    }
    let time: jiff::civil::DateTime = time.get(..MOST_TIME.min(time.len()))?.parse().ok()?;
    let utc = time.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(Row {
        at_s: utc.timestamp().as_nanosecond() as f64 / 1e9,
        prompt: f64::from(prompt.parse::<u32>().ok()?),
        generated: f64::from(generated.parse::<u32>().ok()?),
    })
}

/// A date and a time of 100 ns; later years' files carry an offset of zero behind it.
const MOST_TIME: usize = "2023-11-16 18:17:03.9799600".len();

#[derive(Deserialize)]
struct MooncakeRow {
    timestamp: f64,
    input_length: u32,
    output_length: u32,
}

fn mooncake(line: &str) -> Option<Row> {
    let row: MooncakeRow = serde_json::from_str(line).ok()?;
    Some(Row {
        at_s: row.timestamp / 1e3,
        prompt: f64::from(row.input_length),
        generated: f64::from(row.output_length),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "TIMESTAMP,ContextTokens,GeneratedTokens\n";

    #[test]
    fn both_formats_give_times_and_tokens() {
        let azure =
            format!("{HEADER}2023-11-16 18:17:03.9799600,4808,10\n2023-11-16 18:17:05,7,8\n");
        let mooncake =
            "{\"timestamp\": 500, \"input_length\": 3, \"output_length\": 4, \"x\": []}\n";
        let read = rows(&azure, Format::Azure).expect("good");
        assert_eq!((read[0].prompt, read[0].generated), (4808.0, 10.0));
        assert!((read[1].at_s - read[0].at_s - 1.02004).abs() < 1e-6);
        let read = rows(mooncake, Format::Mooncake).expect("good");
        assert_eq!(
            (read[0].at_s, read[0].prompt, read[0].generated),
            (0.5, 3.0, 4.0)
        );
    }

    #[test]
    fn a_wrong_line_is_named() {
        for (text, format, line) in [
            ("", Format::Azure, 1),
            ("a,b,c\n", Format::Azure, 1),
            ("2023-11-16 18:17:03\n", Format::Azure, 2),
            (
                "2023-11-16 18:17:03,1,2\n\n2023-11-16 18:17:03,1,-2\n",
                Format::Azure,
                4,
            ),
            ("2023-11-16 18:17:03,1,2\nyesterday,1,2\n", Format::Azure, 3),
            ("2023-11-16 18:17:03,1,2,3\n", Format::Azure, 2),
            ("{\"timestamp\": 1}\n", Format::Mooncake, 1),
            (
                "{\"timestamp\": -1, \"input_length\": 3, \"output_length\": 4}",
                Format::Mooncake,
                1,
            ),
        ] {
            let is_headed = format == Format::Azure && line > 1;
            let text = if is_headed {
                format!("{HEADER}{text}")
            } else {
                text.to_owned()
            };
            assert_eq!(
                rows(&text, format).map(|_| ()).map_err(|fault| fault.line),
                Err(line),
                "{text:?}"
            );
        }
    }

    #[test]
    fn what_is_no_trace_is_refused_by_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("trace.csv");
        let costs = Costs {
            prompt_s: 1.0,
            token_s: 1.0,
            vram_per_token: 1.0,
        };
        let absent = read(&path, Format::Azure, &costs)
            .expect_err("absent")
            .to_string();
        assert!(absent.contains("trace.csv"), "{absent}");
        std::fs::write(&path, format!("{HEADER}2023-11-16 18:17:03,1,2\n")).expect("written");
        let short = read(&path, Format::Azure, &costs)
            .expect_err("one row")
            .to_string();
        assert!(short.contains("found 1 requests"), "{short}");
        std::fs::write(&path, format!("{HEADER}x")).expect("written");
        let wrong = read(&path, Format::Azure, &costs)
            .expect_err("no row")
            .to_string();
        assert!(
            wrong.contains("line 2") && wrong.contains("\"x\""),
            "{wrong}"
        );
    }
}
