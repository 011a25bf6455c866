//! The two text forms of metrics: OpenMetrics 1.0 for clients that ask for it, as Prometheus does, and the
//! Prometheus text format 0.0.4 for all others (`promtool check metrics` reads only this one).

use std::collections::BTreeSet;

/// How metrics are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// The Prometheus text format, 0.0.4.
    Text,
}

impl Form {
    /// By the `Accept` header of a request.
    pub fn wanted(accept: Option<&str>) -> Form {
        let mut ranges = accept.unwrap_or_default().split(',');
        let is_wanted = ranges.any(|range| {
            let mut parts = range.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default();
            name.eq_ignore_ascii_case("application/openmetrics-text") && !parts.any(is_refusal)
        });
        match is_wanted {
            true => Form::OpenMetrics,
            false => Form::Text,
        }
    }

    /// The `Content-Type` of an answer in this form.
    pub fn content_type(self) -> &'static str {
        match self {
            Form::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Form::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// `openmetrics`, a whole exposition in that form, in this one.
    pub fn of(self, openmetrics: String) -> String {
        match self {
            Form::OpenMetrics => openmetrics,
            Form::Text => to_text(&openmetrics),
        }
    }
}

/// Whether a parameter says that its range is not acceptable: a weight of 0 (RFC 9110, section 12.4.2).
fn is_refusal(parameter: &str) -> bool {
    let weight = parameter
        .split_once('=')
        .filter(|(name, _)| name.trim().eq_ignore_ascii_case("q"));
    weight.is_some_and(|(_, weight)| weight.trim().parse() == Ok(0.0))
}

/// The samples are the same in both. The text format names a counter by its sample, and knows neither
/// units nor an end.
fn to_text(openmetrics: &str) -> String {
    let counters: BTreeSet<&str> = openmetrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"))
        .collect();
    let mut text = String::with_capacity(openmetrics.len() + 1024);
    for line in openmetrics.lines() {
        if line == "# EOF" || line.starts_with("# UNIT ") {
            continue;
        }
        let described = ["# HELP ", "# TYPE "].into_iter().find_map(|keyword| {
            let (name, rest) = line.strip_prefix(keyword)?.split_once(' ')?;
            counters.contains(name).then_some((keyword, name, rest))
        });
        match described {
            Some((keyword, name, rest)) => {
                for part in [keyword, name, "_total ", rest] {
                    text.push_str(part);
                }
            }
            None => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openmetrics_is_for_who_asks_for_it() {
        let prometheus =
            "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4";
        for (accept, form) in [
            (None, Form::Text),
            (Some("*/*"), Form::Text),
            (Some("text/plain"), Form::Text),
            (Some("application/openmetrics-text;q=0"), Form::Text),
            (
                Some("application/openmetrics-text; version=1.0.0; Q=0.000, */*"),
                Form::Text,
            ),
            (
                Some("application/openmetrics-text;q=0.001"),
                Form::OpenMetrics,
            ),
            (Some(prometheus), Form::OpenMetrics),
            (
                Some("text/html, Application/OpenMetrics-Text"),
                Form::OpenMetrics,
            ),
        ] {
            assert_eq!(Form::wanted(accept), form, "{accept:?}");
        }
    }

    #[test]
    fn a_counter_is_named_by_its_sample_and_all_else_stays() {
        let openmetrics = "# HELP a_sessions Sessions\n# TYPE a_sessions counter\na_sessions_total 3\n\
             # HELP a_up counter\n# TYPE a_up gauge\na_up{b=\"# EOF\"} 1\n\
             # HELP a_first_byte_seconds Time\n# TYPE a_first_byte_seconds histogram\n\
             # UNIT a_first_byte_seconds seconds\na_first_byte_seconds_sum 1.5\n# EOF\n";
        let text = "# HELP a_sessions_total Sessions\n# TYPE a_sessions_total counter\n\
             a_sessions_total 3\n# HELP a_up counter\n# TYPE a_up gauge\na_up{b=\"# EOF\"} 1\n\
             # HELP a_first_byte_seconds Time\n# TYPE a_first_byte_seconds histogram\n\
             a_first_byte_seconds_sum 1.5\n";
        assert_eq!(Form::Text.of(openmetrics.to_owned()), text);
        assert_eq!(Form::OpenMetrics.of(openmetrics.to_owned()), openmetrics);
    }
}
