//! Embeds the console anew when a file of it comes or goes, and says so where it has no charts or no
//! bundle of its modules.

use std::path::Path;

#[path = "src/web/bundle.rs"]
mod bundle;

fn main() {
    println!("cargo::rerun-if-changed=static");
    println!("cargo::rerun-if-changed=templates");
    println!("cargo::rerun-if-changed=src/web/bundle.rs");
    if !Path::new("static/vendor/uPlot.iife.min.js").exists() {
        println!(
            "cargo::warning=the console is built without charts: run scripts/console_assets.sh (needs npm)"
        );
    }
    println!("cargo::rustc-check-cfg=cfg(bundled)");
    match bundle::is_fresh(Path::new("static")) {
        true => println!("cargo::rustc-cfg=bundled"),
        false => println!(
            "cargo::warning=the console is built from single modules: run scripts/console_assets.sh (needs npm)"
        ),
    }
}
