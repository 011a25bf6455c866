//! Embeds the console anew when a file of it comes or goes, and says so where it has no charts.

use std::path::Path;

fn main() {
    println!("cargo::rerun-if-changed=static");
    println!("cargo::rerun-if-changed=templates");
    if !Path::new("static/vendor/uPlot.iife.min.js").exists() {
        println!(
            "cargo::warning=the console is built without charts: run scripts/console_charts.sh (needs npm)"
        );
    }
}
