//! Bar charts as SVG, written by hand: groups of bars, each group on a scale of its own length.

use std::fmt::Write as _;

/// One bar of a group.
#[derive(Debug, Clone, PartialEq)]
pub struct Bar {
    pub name: &'static str,
    pub value: f64,
    /// Least and largest of the rounds.
    pub range: (f64, f64),
    pub is_ours: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    pub title: String,
    pub bars: Vec<Bar>,
}

const WIDTH: f64 = 760.0;
const LEFT: f64 = 96.0;
const RIGHT: f64 = 84.0;
const TOP: f64 = 58.0;
const BAR: f64 = 16.0;
const GAP: f64 = 5.0;
const GROUP_TITLE: f64 = 22.0;
const GROUP_GAP: f64 = 14.0;

/// A chart on a light card, so that it is legible on a page of either theme.
pub fn draw(title: &str, subtitle: &str, groups: &[Group]) -> String {
    let rows: usize = groups.iter().map(|group| group.bars.len()).sum();
    let height = TOP + rows as f64 * (BAR + GAP) + groups.len() as f64 * (GROUP_TITLE + GROUP_GAP);
    let mut svg = String::new();
    open(&mut svg, height, title, subtitle);
    let mut y = TOP;
    for group in groups {
        text(&mut svg, 20.0, y + 12.0, "group", &group.title);
        y += GROUP_TITLE;
        let longest = group.bars.iter().map(|bar| bar.range.1.max(bar.value));
        let scale = match longest.fold(0.0, f64::max) {
            0.0 => 0.0,
            longest => (WIDTH - LEFT - RIGHT) / longest,
        };
        for one in &group.bars {
            bar(&mut svg, one, y, scale);
            y += BAR + GAP;
        }
        y += GROUP_GAP;
    }
    svg.push_str("</svg>\n");
    svg
}

fn open(svg: &mut String, height: f64, title: &str, subtitle: &str) {
    add(
        svg,
        format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
             aria-label=\"{}\">\n<style>\ntext {{ font: 13px system-ui, sans-serif; fill: #33393f }}\n\
             .title {{ font-size: 17px; font-weight: 600; fill: #14181c }}\n\
             .subtitle, .value {{ fill: #5b646d }}\n.group {{ font-weight: 600 }}\n\
             .name {{ text-anchor: end }}\n.bar {{ fill: #b4bdc6 }}\n.ours {{ fill: #0f7b6c }}\n\
             .range {{ stroke: #14181c; stroke-width: 1.2 }}\n</style>\n\
             <rect width=\"100%\" height=\"100%\" rx=\"10\" fill=\"#fbfcfd\"/>",
            escaped(title)
        ),
    );
    text(svg, 20.0, 27.0, "title", title);
    text(svg, 20.0, 46.0, "subtitle", subtitle);
}

fn bar(svg: &mut String, bar: &Bar, y: f64, scale: f64) {
    let middle = y + BAR / 2.0;
    let baseline = middle + 4.5;
    text(svg, LEFT - 8.0, baseline, "name", bar.name);
    let class = if bar.is_ours { "bar ours" } else { "bar" };
    let width = bar.value * scale;
    add(
        svg,
        format_args!(
            "<rect class=\"{class}\" x=\"{LEFT}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{BAR}\" rx=\"2\"/>"
        ),
    );
    let (least, largest) = (LEFT + bar.range.0 * scale, LEFT + bar.range.1 * scale);
    add(
        svg,
        format_args!(
            "<line class=\"range\" x1=\"{least:.1}\" x2=\"{largest:.1}\" y1=\"{middle:.1}\" y2=\"{middle:.1}\"/>"
        ),
    );
    let end = (LEFT + width).max(largest) + 8.0;
    text(svg, end, baseline, "value", &number(bar.value));
}

fn text(svg: &mut String, x: f64, y: f64, class: &str, content: &str) {
    let content = escaped(content);
    add(
        svg,
        format_args!("<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{content}</text>"),
    );
}

fn add(svg: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(svg, "{line}").expect("writing to a String does not fail");
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('"', "&quot;")
}

/// Three digits that mean something, thousands apart.
pub fn number(value: f64) -> String {
    let digits = match value.abs() {
        large if large >= 99.95 => 0,
        middle if middle >= 9.995 => 1,
        _ => 2,
    };
    let text = format!("{value:.digits$}");
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let mut spaced = String::new();
    for (index, digit) in whole.chars().enumerate() {
        let left = whole.len() - index;
        if index > 0 && left % 3 == 0 && !spaced.ends_with('-') {
            spaced.push(',');
        }
        spaced.push(digit);
    }
    match fraction {
        "" => spaced,
        fraction => format!("{spaced}.{fraction}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(title: &str, values: &[f64]) -> Group {
        let bar = |&value: &f64| Bar {
            name: "ours",
            value,
            range: (value * 0.9, value * 1.1),
            is_ours: true,
        };
        Group {
            title: title.to_owned(),
            bars: values.iter().map(bar).collect(),
        }
    }

    #[test]
    fn numbers_have_three_digits_and_separators() {
        for (value, text) in [
            (0.0, "0.00"),
            (1.234, "1.23"),
            (12.34, "12.3"),
            (99.97, "100"),
            (999.6, "1,000"),
            (1_234_567.0, "1,234,567"),
            (-1_234.0, "-1,234"),
            (-123.0, "-123"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn the_longest_range_ends_where_values_begin() {
        let svg = draw(
            "a < b",
            "\"c\"",
            &[group("one", &[10.0, 5.0]), group("two", &[1e-9])],
        );
        assert!(svg.contains("a &lt; b") && !svg.contains("a < b"));
        assert_eq!(svg.matches("class=\"bar ours\"").count(), 3);
        let ends = svg.lines().filter_map(|line| line.split("x2=\"").nth(1));
        let ends = ends.map(|rest| rest.split('"').next().expect("a value").parse::<f64>());
        let furthest = ends.map(|end| end.expect("a number")).fold(0.0, f64::max);
        assert_eq!(furthest, WIDTH - RIGHT);
    }

    #[test]
    fn nothing_measured_is_drawn_as_nothing() {
        let svg = draw("title", "", &[group("zero", &[0.0])]);
        assert!(svg.contains("width=\"0.0\"") && svg.ends_with("</svg>\n"));
    }
}
