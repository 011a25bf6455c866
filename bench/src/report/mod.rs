//! Results as files: raw JSON, a page with tables and verdicts, and charts.

mod page;
mod verdict;

use std::fs;
use std::io;
use std::path::Path;

use crate::results::Results;

/// The raw figures, from which the rest can be made again.
pub const RAW: &str = "results.json";
/// So that browsing the folder shows it.
const PAGE: &str = "README.md";

/// Writes everything into `folder`, which is made where it is missing.
pub fn write(results: &Results, folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let mut raw = serde_json::to_string_pretty(results)?;
    raw.push('\n');
    fs::write(folder.join(RAW), raw)?;
    let mut drawn = Vec::new();
    for plan in &page::CHARTS {
        if let Some(svg) = page::chart(plan, results) {
            fs::write(folder.join(plan.file), svg)?;
            drawn.push(plan);
        }
    }
    fs::write(folder.join(PAGE), page::page(results, &drawn))
}
