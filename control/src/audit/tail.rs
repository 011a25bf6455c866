//! The last lines of a file, read from its end and bounded however long the file is.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

/// At most this much is read from the end.
const MAX_BYTES: u64 = 4 << 20;

/// The last `lines` lines, each with its line end; an absent file has none.
pub fn last_lines(path: &Path, lines: usize) -> io::Result<String> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        opened => opened?,
    };
    let length = file.metadata()?.len();
    let from = length.saturating_sub(MAX_BYTES);
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes)?;
    let mut rest = bytes.as_slice();
    if from > 0 {
        // The first line is probably cut.
        let end = rest.iter().position(|byte| *byte == b'\n');
        rest = &rest[end.map_or(0, |end| end + 1)..];
    }
    let ends = rest.iter().enumerate().rev();
    let start = ends
        .filter(|(index, byte)| **byte == b'\n' && index + 1 < rest.len())
        .nth(lines.saturating_sub(1))
        .map_or(0, |(index, _)| index + 1);
    Ok(String::from_utf8_lossy(&rest[start..]).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_and_no_more() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let path = temp.path().join("log");
        assert_eq!(last_lines(&path, 5).expect("absent"), "");
        std::fs::write(&path, "1\n2\n3\n4\n").expect("written");
        assert_eq!(last_lines(&path, 2).expect("read"), "3\n4\n");
        assert_eq!(last_lines(&path, 4).expect("read"), "1\n2\n3\n4\n");
        assert_eq!(last_lines(&path, 100).expect("read"), "1\n2\n3\n4\n");
        std::fs::write(&path, "1\n2\n3").expect("written");
        assert_eq!(last_lines(&path, 2).expect("read"), "2\n3");
    }

    #[test]
    fn a_huge_file_is_read_from_its_end_in_whole_lines() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let path = temp.path().join("log");
        let line = format!("{}\n", "x".repeat(1023));
        std::fs::write(&path, line.repeat(5000)).expect("written");
        let read = last_lines(&path, 100_000).expect("read");
        assert!(read.len() as u64 <= MAX_BYTES && read.len().is_multiple_of(1024));
    }
}
