//! Lines for the person who watches.

use std::fmt::Display;
use std::io::{self, Write as _};

/// Prints one line. Where nobody reads any longer (`| head`), a simulator goes on all the same;
/// `println!` would panic there.
pub fn say(line: impl Display) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// Like [`say`], for what went wrong.
pub fn complain(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}
