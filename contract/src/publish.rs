//! Replacing a file so that every reader sees one whole version (invariant 5).

use std::fmt::Write as _;
use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use crate::links;

/// Why a file was not replaced, or was replaced but may be lost.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The old version is in place, and the temporary file is gone.
    #[error(transparent)]
    NotReplaced(#[from] io::Error),
    /// Every reader sees the new version; a loss of power may bring the old one back.
    #[error("applied, but may be lost in a power failure: the folder cannot be synced: {0}")]
    NotLasting(io::Error),
    /// Another program replaced the file meanwhile, and its version is in place.
    #[error("another program keeps replacing it")]
    Overtaken,
}

impl PublishError {
    /// Lets callers distinguish a full disk from a broken one.
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            PublishError::NotReplaced(error) | PublishError::NotLasting(error) => error.kind(),
            PublishError::Overtaken => io::ErrorKind::ResourceBusy,
        }
    }
}

impl From<PublishError> for io::Error {
    fn from(error: PublishError) -> io::Error {
        match error {
            PublishError::NotReplaced(error) => error,
            PublishError::NotLasting(_) | PublishError::Overtaken => {
                io::Error::new(error.kind(), error.to_string())
            }
        }
    }
}

/// Replaces the regular file at `path` by `bytes`: temporary file beside it, fsync, rename, fsync of the
/// folder. Missing folders are created. A symbolic link stays, and its target is replaced, or created if
/// there is none yet. The file keeps the owner, group and mode of the one that it replaces; a new one,
/// or one whose owner cannot be kept, is readable by all (0644), since the proxy may run as another
/// user. The caller must ensure one writer at a time for each path within a process.
///
/// # Errors
/// The system's error, and which version is in place. The error names the target of a link.
pub fn publish(path: &Path, bytes: &[u8]) -> Result<(), PublishError> {
    replace(path, bytes, Access::AsBefore, None)
}

/// The same, but only if the file is still the one that the caller has read, which `is_as_read` tells:
/// writing takes milliseconds, in which others may replace the file too. One that is replaced between this
/// look and the rename is put back (`RENAME_EXCHANGE` of renameat2(2)); a file system that cannot exchange
/// files leaves these microseconds open.
///
/// # Errors
/// As above, and [`PublishError::Overtaken`] if the file was replaced.
pub fn publish_over(
    path: &Path,
    bytes: &[u8],
    is_as_read: impl Fn() -> bool,
) -> Result<(), PublishError> {
    replace(path, bytes, Access::AsBefore, Some(&is_as_read))
}

/// The same for a file that only its owner may read (0600), whatever its mode was before. If root
/// writes it, it belongs to the owner of its folder: the programs that read it run as that user.
pub fn publish_private(path: &Path, bytes: &[u8]) -> Result<(), PublishError> {
    replace(path, bytes, Access::Private, None)
}

/// Which users may read the new file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    /// Those who could read the old one; all users if there is none.
    AsBefore,
    Private,
}

/// Whether the file that is to be replaced is still the one that was read; `None`: it may be any.
type IsAsRead<'a> = Option<&'a dyn Fn() -> bool>;

fn replace(
    path: &Path,
    bytes: &[u8],
    access: Access,
    is_as_read: IsAsRead,
) -> Result<(), PublishError> {
    // Only here: if the folder of a link's target is missing, its volume is not mounted.
    fs::create_dir_all(folder_of(path))?;
    let target = end_of_links(path)?;
    replace_file(&target, bytes, access, is_as_read).map_err(|error| match error {
        PublishError::NotReplaced(error) if target != path => {
            PublishError::NotReplaced(of_target(&target, &error))
        }
        error => error,
    })
}

fn replace_file(
    path: &Path,
    bytes: &[u8],
    access: Access,
    is_as_read: IsAsRead,
) -> Result<(), PublishError> {
    let folder = folder_of(path);
    let temporary = temporary_name(path, std::process::id())?;
    // Opened first: without a descriptor or the right to open it, nothing is replaced.
    let opened_folder = File::open(folder)?;
    let before = fs::symlink_metadata(path).ok();
    // A folder in the way refuses the rename itself.
    if before
        .as_ref()
        .is_some_and(|found| !found.is_file() && !found.is_dir())
    {
        return Err(no_file(path).into());
    }
    let before = before.filter(Metadata::is_file);
    let written = write_whole(&temporary, bytes, access, before.as_ref(), &opened_folder);
    let replaced = match (written, is_as_read) {
        (Err(error), _) => Err(error.into()),
        (Ok(()), None) => fs::rename(&temporary, path).map_err(PublishError::from),
        (Ok(()), Some(is_as_read)) => put_over(&temporary, path, is_as_read),
    };
    // Of a failure, or the version that was replaced. The first error is reported; this is best effort.
    let _ = fs::remove_file(&temporary);
    replaced?;
    opened_folder.sync_all().map_err(PublishError::NotLasting)
}

/// Puts `new` in the place of `path`, unless that is not what was read. What stood there before is then at
/// `new`, or nowhere.
fn put_over(new: &Path, path: &Path, is_as_read: &dyn Fn() -> bool) -> Result<(), PublishError> {
    let read = identity(path);
    let ours = identity(new);
    if !is_as_read() {
        return Err(PublishError::Overtaken);
    }
    // A folder would be exchanged too; a rename refuses it.
    if path.is_dir() {
        return fs::rename(new, path).map_err(PublishError::from);
    }
    let flag = match read {
        Some(_) => RenameFlags::EXCHANGE,
        None => RenameFlags::NOREPLACE,
    };
    match (renameat_with(CWD, new, CWD, path, flag), read) {
        (Ok(()), Some(_)) if identity(new) == read => Ok(()),
        (Ok(()), Some(_)) => put_back(new, path, ours),
        (Ok(()), None) => Ok(()),
        // It was removed, or created, meanwhile.
        (Err(Errno::NOENT), Some(_)) | (Err(Errno::EXIST), None) => Err(PublishError::Overtaken),
        (Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP), _) => {
            fs::rename(new, path).map_err(PublishError::from)
        }
        (Err(error), _) => Err(io::Error::from(error).into()),
    }
}

/// Puts the version of another program, which is at `aside`, back to `path`. If it has replaced ours there
/// by then, the newer one of its versions stays.
fn put_back(aside: &Path, path: &Path, ours: Identity) -> Result<(), PublishError> {
    // Each turn needs one more replacement within microseconds.
    const MOST_TURNS: usize = 100;
    for _ in 0..MOST_TURNS {
        match renameat_with(CWD, aside, CWD, path, RenameFlags::EXCHANGE) {
            Ok(()) if identity(aside) == ours => break,
            Ok(()) => {}
            // Removed by then, so it stays so.
            Err(Errno::NOENT) => break,
            Err(error) => return Err(io::Error::from(error).into()),
        }
    }
    Err(PublishError::Overtaken)
}

/// Device, inode, size and time of the last write: what a rename leaves as it is. `None`: there is no file.
type Identity = Option<(u64, u64, u64, i64, i64)>;

fn identity(path: &Path) -> Identity {
    let found = fs::symlink_metadata(path).ok()?;
    let written = (found.mtime(), found.mtime_nsec());
    Some((found.dev(), found.ino(), found.size(), written.0, written.1))
}

/// Other programs use a device, pipe or socket; a rename would put a file in its place.
fn no_file(path: &Path) -> io::Error {
    let why = format!(
        "{}: found a device, pipe or socket, allowed: a regular file",
        path.display()
    );
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

/// The file at the end of the links at `path`; `path` itself if it is no link.
///
/// Root follows a link only if root or the owner of the folder that it points into could have created
/// it: no user may make root replace another user's file (`protected_symlinks` of `proc_sys_fs(5)`
/// protects only sticky folders).
///
/// # Errors
/// A loop, or a link that root does not follow.
pub fn end_of_links(path: &Path) -> io::Result<PathBuf> {
    let links = links::follow(path)?;
    if links.of_file.is_empty() {
        return Ok(path.to_owned());
    }
    if rustix::process::geteuid().is_root() {
        let folder = folder_of(&links.end);
        let metadata = fs::metadata(folder).map_err(|error| of_target(&links.end, &error))?;
        for link in &links.of_file {
            let owner = fs::symlink_metadata(link)?.uid();
            if owner != 0 && owner != metadata.uid() {
                let why = format!(
                    "{}: this link belongs to user {owner}, but the folder {} belongs to another user",
                    link.display(),
                    folder.display()
                );
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
            }
        }
    }
    Ok(links.end)
}

fn of_target(target: &Path, error: &io::Error) -> io::Error {
    io::Error::new(
        error.kind(),
        format!("link to {}: {error}", target.display()),
    )
}

/// Removes temporary files that killed writers of `path` left behind, beside the target of a link.
/// Those of living processes are kept.
pub fn remove_litter(path: &Path) -> io::Result<()> {
    let path = &links::follow(path)?.end;
    let prefix = temporary_prefix(path)?;
    for entry in fs::read_dir(folder_of(path))? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| writer_of(name, &prefix)) else {
            continue;
        };
        if !Path::new("/proc").join(pid.to_string()).exists() {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// The SHA-256 of a file's bytes in lower-case hexadecimal: how the planes name one version of it.
pub fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .fold(String::with_capacity(64), |mut hex, byte| {
            write!(hex, "{byte:02x}").expect("writing to a String does not fail");
            hex
        })
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn temporary_prefix(path: &Path) -> io::Result<String> {
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidFilename))?;
    Ok(format!(".{name}."))
}

fn temporary_name(path: &Path, pid: u32) -> io::Result<PathBuf> {
    Ok(path.with_file_name(format!("{}{pid}.tmp", temporary_prefix(path)?)))
}

fn writer_of(name: &str, prefix: &str) -> Option<u32> {
    name.strip_prefix(prefix)?
        .strip_suffix(".tmp")?
        .parse()
        .ok()
}

fn write_whole(
    path: &Path,
    bytes: &[u8],
    access: Access,
    before: Option<&Metadata>,
    folder: &File,
) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        // Readable by no other user until it has its owner.
        .mode(0o600)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32)
        .open(path)?;
    file.write_all(bytes)?;
    let mode = match access {
        Access::AsBefore => before.and_then(|before| take_over_owner(&file, before)),
        Access::Private => {
            if rustix::process::geteuid().is_root() {
                let owner = folder.metadata()?;
                fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
            }
            Some(0o600)
        }
    };
    // Not narrowed by the umask, which must not affect the readers.
    file.set_permissions(Permissions::from_mode(mode.unwrap_or(0o644)))?;
    file.sync_all()
}

/// Gives the file the owner and group of the one that it replaces, and returns the mode that belongs
/// to them; `None` if they cannot be kept.
fn take_over_owner(file: &File, before: &Metadata) -> Option<u32> {
    let own = file.metadata().ok()?;
    if (own.uid(), own.gid()) != (before.uid(), before.gid()) {
        fchown(file, Some(before.uid()), Some(before.gid())).ok()?;
    }
    // Its owner reads it again.
    Some(before.mode() & 0o777 | 0o400)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("the folder");
        entries
            .map(|e| {
                e.expect("an entry")
                    .file_name()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect()
    }

    #[test]
    fn a_published_file_is_whole_readable_by_all_and_leaves_no_litter() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let path = temp.path().join("made/by/publish.json");
        publish(&path, b"one").expect("published");
        publish(&path, b"two").expect("published");
        assert_eq!(fs::read(&path).expect("the file"), b"two");
        let mode = fs::metadata(&path).expect("the file").permissions().mode();
        assert_eq!(mode & 0o777, 0o644);
        assert_eq!(names(path.parent().expect("a folder")), ["publish.json"]);
    }

    #[test]
    fn a_replaced_file_keeps_its_mode_owner_and_group() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let path = temp.path().join("a.json");
        let access = |path: &Path| {
            let metadata = fs::metadata(path).expect("the file");
            (metadata.mode() & 0o7777, metadata.uid(), metadata.gid())
        };
        for mode in [0o640, 0o664, 0o600, 0o444, 0o4755] {
            fs::write(&path, b"by hand").expect("written");
            let (mut uid, mut gid) = (access(&path).1, access(&path).2);
            if rustix::process::geteuid().is_root() {
                (uid, gid) = (4242, 4343);
                std::os::unix::fs::chown(&path, Some(uid), Some(gid)).expect("root may");
            }
            fs::set_permissions(&path, Permissions::from_mode(mode)).expect("ours");
            publish(&path, b"two").expect("published");
            assert_eq!(fs::read(&path).expect("the file"), b"two");
            assert_eq!(access(&path), (mode & 0o777, uid, gid), "{mode:o}");
            fs::remove_file(&path).expect("removed");
        }
        fs::write(&path, b"tokens").expect("written");
        fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("ours");
        publish_private(&path, b"more tokens").expect("published");
        assert_eq!(access(&path).0, 0o600);
    }

    #[test]
    fn a_file_that_somebody_else_replaces_meanwhile_stands() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let path = temp.path().join("a.json");
        fs::write(&path, b"one").expect("written");
        let overtaken = publish_over(&path, b"ours", || {
            fs::write(&path, b"theirs").expect("written");
            false
        });
        assert!(matches!(overtaken, Err(PublishError::Overtaken)));
        assert_eq!(fs::read(&path).expect("the file"), b"theirs");
        assert_eq!(names(temp.path()), ["a.json"]);
        publish_over(&path, b"ours", || true).expect("published");
        assert_eq!(fs::read(&path).expect("the file"), b"ours");
    }

    #[test]
    fn a_file_that_is_replaced_after_the_last_look_stands_too() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let path = temp.path().join("a.json");
        let theirs = temp.path().join("theirs");
        type Change<'a> = &'a dyn Fn();
        let rename = || {
            fs::write(&theirs, b"theirs").expect("written");
            fs::rename(&theirs, &path).expect("renamed");
        };
        let write = || fs::write(&path, b"theirs").expect("written");
        for change in [&rename as Change, &write] {
            fs::write(&path, b"one").expect("written");
            let overtaken = publish_over(&path, b"ours", || {
                change();
                true
            });
            assert!(
                matches!(overtaken, Err(PublishError::Overtaken)),
                "{overtaken:?}"
            );
            assert_eq!(fs::read(&path).expect("the file"), b"theirs");
            assert_eq!(names(temp.path()), ["a.json"]);
        }
        // A folder in its place is refused, whenever it came there.
        let folder = || {
            fs::remove_file(&path).expect("removed");
            fs::create_dir(&path).expect("a folder");
            fs::write(path.join("kept"), b"").expect("written");
        };
        folder();
        for change in [&(|| {}) as Change, &folder] {
            let refused = publish_over(&path, b"ours", || {
                change();
                true
            });
            assert!(refused.is_err());
            assert!(path.join("kept").exists(), "{refused:?}");
            assert_eq!(names(temp.path()), ["a.json"]);
            fs::remove_dir_all(&path).expect("removed");
            fs::write(&path, b"theirs").expect("written");
        }
        // One that is removed, or that was not there.
        let remove = || fs::remove_file(&path).expect("removed");
        for change in [&remove as Change, &rename] {
            let overtaken = publish_over(&path, b"ours", || {
                change();
                true
            });
            assert!(
                matches!(overtaken, Err(PublishError::Overtaken)),
                "{overtaken:?}"
            );
        }
        assert_eq!(fs::read(&path).expect("the file"), b"theirs");
        fs::remove_file(&path).expect("removed");
        publish_over(&path, b"ours", || true).expect("published");
        assert_eq!(names(temp.path()), ["a.json"]);
    }

    #[test]
    fn a_failed_publish_leaves_the_old_version_and_no_litter() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let path = temp.path().join("taken");
        fs::create_dir(&path).expect("a folder where the file should go");
        fs::write(path.join("kept"), b"x").expect("a file in it");
        assert!(publish(&path, b"one").is_err());
        assert_eq!(names(temp.path()), ["taken"]);
    }

    fn link(target: impl AsRef<Path>, link: &Path) {
        std::os::unix::fs::symlink(target, link).expect("linked");
    }

    fn is_link(path: &Path) -> bool {
        fs::symlink_metadata(path).expect("there").is_symlink()
    }

    #[test]
    fn a_link_stays_and_its_target_is_replaced() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let (ours, volume) = (temp.path().join("config"), temp.path().join("volume"));
        fs::create_dir_all(volume.join("version")).expect("a folder");
        fs::create_dir(&ours).expect("a folder");
        fs::write(volume.join("version/b.json"), b"old").expect("written");
        link(&volume, &temp.path().join("by-folder"));
        link("version", &volume.join("..data"));
        // Target, and where the file is in the volume then; some do not exist before.
        let cases = [
            (volume.join("a.json"), "a.json"),
            (PathBuf::from("../volume/version/b.json"), "version/b.json"),
            (volume.join("..data/c.json"), "version/c.json"),
            (temp.path().join("by-folder/d.json"), "d.json"),
        ];
        for (index, (target, end)) in cases.into_iter().enumerate() {
            let path = ours.join(format!("{index}.json"));
            let second = ours.join(format!("{index}.link"));
            link(&target, &path);
            link(&path, &second);
            for (named, bytes) in [(&path, b"one"), (&second, b"two")] {
                publish(named, bytes).expect("published");
                assert!(is_link(named), "{target:?}");
                assert_eq!(fs::read(volume.join(end)).expect("there"), bytes);
            }
        }
        // No litter, neither beside the links nor beside the targets.
        assert_eq!(names(&ours).len(), 8);
        assert_eq!(names(&volume).len(), 4);
        assert_eq!(names(&volume.join("version")).len(), 2);
    }

    #[test]
    fn a_link_that_leads_nowhere_is_a_clear_error() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let (looped, unmounted) = (temp.path().join("a"), temp.path().join("b"));
        link(&looped, &looped);
        link("volume/b.json", &unmounted);
        for (path, kind, word) in [
            (&looped, io::ErrorKind::Other, "loop"),
            (&unmounted, io::ErrorKind::NotFound, "volume/b.json"),
        ] {
            let error = publish(path, b"one").expect_err("nowhere");
            assert_eq!(error.kind(), kind);
            assert!(error.to_string().contains(word), "{error}");
            assert!(is_link(path));
        }
        assert_eq!(names(temp.path()).len(), 2);
    }

    #[test]
    fn root_follows_no_link_of_a_user_into_the_folder_of_another() {
        const USER: u32 = 4242;
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let own = |path: &Path| std::os::unix::fs::lchown(path, Some(USER), None).expect("owned");
        let temp = tempfile::tempdir().expect("a temporary folder");
        let (theirs, others) = (temp.path().join("theirs"), temp.path().join("others"));
        fs::create_dir(&theirs).expect("a folder");
        fs::create_dir(&others).expect("a folder");
        own(&theirs);
        let path = temp.path().join("a.json");
        link("others/a.json", &path);
        own(&path);
        let refused = publish(&path, b"one").expect_err("not theirs");
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
        assert!(names(&others).is_empty());
        fs::remove_file(&path).expect("removed");
        link("theirs/a.json", &path);
        own(&path);
        publish(&path, b"one").expect("their own");
    }

    #[test]
    fn what_is_no_file_is_not_replaced_behind_a_link_either() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let socket = temp.path().join("socket");
        let _bound = std::os::unix::net::UnixListener::bind(&socket).expect("bound");
        let path = temp.path().join("a.json");
        link(&socket, &path);
        for path in [&socket, &path] {
            let refused = publish(path, b"one").expect_err("a socket");
            assert_eq!(refused.kind(), io::ErrorKind::InvalidInput, "{refused}");
            assert!(refused.to_string().contains("socket"), "{refused}");
        }
        assert!(!fs::metadata(&socket).expect("there").is_file());
        assert_eq!(names(temp.path()), ["a.json", "socket"]);
    }

    #[test]
    fn litter_lies_beside_the_target_of_a_link() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let target = temp.path().join("volume/a.json");
        fs::create_dir(temp.path().join("volume")).expect("a folder");
        let path = temp.path().join("b.json");
        link(&target, &path);
        let dead = temporary_name(&target, 4_194_305).expect("a name");
        fs::write(&dead, b"x").expect("litter");
        remove_litter(&path).expect("swept");
        assert!(!dead.exists());
    }

    #[test]
    fn an_error_after_the_rename_says_that_the_file_was_replaced() {
        let why = io::Error::from(io::ErrorKind::StorageFull);
        let error = io::Error::from(PublishError::NotLasting(why));
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert!(error.to_string().starts_with("applied, but"), "{error}");
    }

    #[test]
    fn litter_of_dead_writers_is_removed_and_that_of_living_ones_kept() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let path = temp.path().join("a.json");
        // Process ids end at 2^22 on Linux, so this writer cannot live.
        let dead = temporary_name(&path, 4_194_305).expect("a name");
        let living = temporary_name(&path, std::process::id()).expect("a name");
        fs::write(&dead, b"x").expect("litter");
        fs::write(&living, b"x").expect("work in progress");
        remove_litter(&path).expect("swept");
        assert!(!dead.exists() && living.exists());
    }
}
