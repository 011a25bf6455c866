//! Whether the console's modules are bundled as they stand. `build.rs` asks for what is embedded, and a
//! debug build, which reads the console from the repository, at each request.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

/// False where there is no bundle, or a module is newer.
pub fn is_fresh(folder: &Path) -> bool {
    let Some(bundled) = modified(&folder.join("bundle/main.js")) else {
        return false;
    };
    let Ok(entries) = fs::read_dir(folder) else {
        return false;
    };
    let paths = entries.filter_map(Result::ok).map(|entry| entry.path());
    let mut modules = paths.filter(|path| path.extension().is_some_and(|name| name == "js"));
    modules.all(|path| modified(&path).is_some_and(|module| module <= bundled))
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).ok()?.modified().ok()
}
