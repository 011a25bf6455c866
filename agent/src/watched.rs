//! Files that others replace under a running agent: tokens, secrets, certificates.
//!
//! The last good content stays in use until there is new good content. A file that is being written, empty,
//! a folder or gone is reported once for each of these states, and checked again.

use std::fs::{self, File};
use std::hash::{BuildHasher as _, RandomState};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// The longest file that people write: the configuration, or certificates.
pub const MAX_FILE_BYTES: usize = 1 << 20;
/// The longest file of a token or another secret.
pub const MAX_SECRET_BYTES: usize = 4096;
/// How long a changed file has to stay as it is before it is read, since it may be half written.
const STILL: Duration = Duration::from_millis(50);

/// A file, and its last good content.
pub struct Watched<T> {
    path: PathBuf,
    max_bytes: usize,
    read: fn(&[u8]) -> Result<T, String>,
    good: T,
    good_digest: u64,
    hasher: RandomState,
    /// The version of the file that was last read, or could not be read.
    seen: Stamp,
}

/// What identifies a version of a file. A replaced link on the way changes it too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stamp {
    Missing,
    File {
        device: u64,
        inode: u64,
        bytes: u64,
        modified: (i64, i64),
        changed: (i64, i64),
    },
}

/// The result of a check.
#[derive(Debug, PartialEq, Eq)]
pub enum Look {
    /// Nothing new.
    Same,
    Changed,
    /// Why the file cannot be used as it is now; reported once.
    Bad(String),
}

impl<T> Watched<T> {
    /// # Errors
    /// In words that do not reveal a secret, if the file cannot be used now.
    pub fn open(
        path: &Path,
        max_bytes: usize,
        read: fn(&[u8]) -> Result<T, String>,
    ) -> Result<Watched<T>, String> {
        let seen = Stamp::of(path);
        let bytes = read_file(path, max_bytes)?;
        let good = read(&bytes).map_err(|why| format!("{}: {why}", path.display()))?;
        let hasher = RandomState::new();
        Ok(Watched {
            path: path.to_owned(),
            max_bytes,
            read,
            good,
            good_digest: hasher.hash_one(&bytes),
            hasher,
            seen,
        })
    }

    pub fn get(&self) -> &T {
        &self.good
    }

    /// Checks whether the file has changed; if its content was refused, reads it in any case.
    pub fn look_at(&mut self, is_refused: bool) -> Look {
        match is_refused {
            true => self.look_again(),
            false => self.look(),
        }
    }

    /// Reads the file again if it has changed.
    pub fn look(&mut self) -> Look {
        self.look_after(|| thread::sleep(STILL))
    }

    fn look_after(&mut self, pause: impl FnOnce()) -> Look {
        let found = Stamp::of(&self.path);
        if found == self.seen {
            return Look::Same;
        }
        pause();
        match Stamp::of(&self.path) == found {
            true => self.take(found),
            false => Look::Same,
        }
    }

    /// Reads the file again although it looks unchanged, because its content was refused.
    pub fn look_again(&mut self) -> Look {
        let found = Stamp::of(&self.path);
        match found == self.seen {
            true => self.take(found),
            false => self.look(),
        }
    }

    fn take(&mut self, found: Stamp) -> Look {
        let was_seen = std::mem::replace(&mut self.seen, found) == found;
        let bad = |why: String| match was_seen {
            true => Look::Same,
            false => Look::Bad(why),
        };
        let bytes = match read_file(&self.path, self.max_bytes) {
            Ok(bytes) => bytes,
            Err(why) => return bad(why),
        };
        let digest = self.hasher.hash_one(&bytes);
        if digest == self.good_digest {
            return Look::Same;
        }
        match (self.read)(&bytes) {
            Ok(good) => {
                (self.good, self.good_digest) = (good, digest);
                Look::Changed
            }
            Err(why) => bad(format!("{}: {why}", self.path.display())),
        }
    }
}

impl Stamp {
    fn of(path: &Path) -> Stamp {
        match fs::metadata(path) {
            Err(_) => Stamp::Missing,
            Ok(found) => Stamp::File {
                device: found.dev(),
                inode: found.ino(),
                bytes: found.size(),
                modified: (found.mtime(), found.mtime_nsec()),
                changed: (found.ctime(), found.ctime_nsec()),
            },
        }
    }
}

/// A file's bytes, one more than allowed at most, so that the caller sees that it is too large.
///
/// # Errors
/// In words, with the path.
pub fn read_file(path: &Path, max_bytes: usize) -> Result<Vec<u8>, String> {
    let told = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
    // Opening a pipe would wait for a writer.
    let found = fs::metadata(path).map_err(|error| told(&error))?;
    if found.is_dir() {
        return Err(told(&"is a folder, not a file"));
    }
    if !found.is_file() {
        return Err(told(&"is not a regular file"));
    }
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| {
        let mut bounded = file.take(max_bytes as u64 + 1);
        bounded.read_to_end(&mut bytes)
    });
    read.map_err(|error| told(&error))?;
    Ok(bytes)
}

/// The text of a secret, without the line's end.
///
/// # Errors
/// What is allowed, without the secret.
pub fn secret<T>(bytes: &[u8], read: fn(&str) -> Result<T, String>) -> Result<T, String> {
    let text = String::from_utf8_lossy(bytes);
    match text.trim() {
        "" => Err("is empty".to_owned()),
        text => read(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(bytes: &[u8]) -> Result<String, String> {
        secret(bytes, |text| match text.contains(' ') {
            false => Ok(text.to_owned()),
            true => Err("one word".to_owned()),
        })
    }

    /// Replaces a file as programs do that write it whole, so that it is another one each time.
    fn replace(path: &Path, text: &str) {
        let beside = path.with_extension("new");
        fs::write(&beside, text).expect("a temporary folder can be written");
        fs::rename(&beside, path).expect("a temporary folder can be written");
    }

    #[test]
    fn what_takes_a_files_place_is_read_and_what_is_bad_there_is_told_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("secret");
        assert!(Watched::open(&path, 16, word).is_err(), "it is not there");
        replace(&path, "one\n");
        let mut file = Watched::open(&path, 16, word).expect("a word");
        assert_eq!((file.look(), file.get().as_str()), (Look::Same, "one"));

        replace(&path, "two\n");
        assert_eq!((file.look(), file.get().as_str()), (Look::Changed, "two"));
        replace(&path, "two\n");
        assert_eq!(file.look(), Look::Same, "the same again");

        for (text, why) in [("", "empty"), ("two words", "one word")] {
            replace(&path, text);
            let Look::Bad(told) = file.look() else {
                panic!("{text:?} is bad")
            };
            assert!(told.contains(why) && told.contains("secret"), "{told}");
            assert_eq!((file.look(), file.look_again()), (Look::Same, Look::Same));
            assert_eq!(file.get(), "two", "the last good one");
        }
        fs::remove_file(&path).expect("it is there");
        assert!(matches!(file.look(), Look::Bad(_)));
        fs::create_dir(&path).expect("nothing is there");
        assert!(matches!(file.look(), Look::Bad(why) if why.contains("folder")));
        fs::remove_dir(&path).expect("it is empty");
        replace(&path, "three");
        assert_eq!((file.look(), file.get().as_str()), (Look::Changed, "three"));
    }

    #[test]
    fn a_link_to_another_file_is_another_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        for name in ["one", "two"] {
            fs::write(at(name), name).expect("a temporary folder can be written");
        }
        std::os::unix::fs::symlink("one", at("secret")).expect("a link");
        let mut file = Watched::open(&at("secret"), 16, word).expect("a word");
        std::os::unix::fs::symlink("two", at("next")).expect("a link");
        fs::rename(at("next"), at("secret")).expect("a temporary folder can be written");
        assert_eq!((file.look(), file.get().as_str()), (Look::Changed, "two"));
    }

    #[test]
    fn a_file_that_is_being_written_is_not_read_until_it_stands_still() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("secret");
        let write = |text: &str| fs::write(&path, text).expect("a temporary folder can be written");
        write("one");
        let mut file = Watched::open(&path, 16, word).expect("a word");
        write("wh");
        assert_eq!(file.look_after(|| write("whol")), Look::Same);
        assert_eq!(file.get(), "one");
        write("whole");
        assert_eq!(
            (file.look_after(|| ()), file.get().as_str()),
            (Look::Changed, "whole")
        );
    }

    #[test]
    fn neither_a_pipe_nor_a_file_without_end_is_waited_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        if made.is_ok_and(|made| made.success()) {
            assert!(read_file(&path, 16).is_err());
        }
        assert!(read_file(Path::new("/dev/zero"), 16).is_err());
    }
}
