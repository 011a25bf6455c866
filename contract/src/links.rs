//! Where a path ends when every symbolic link on the way is followed, and which names lie on that way:
//! a file that is replaced must be replaced at the end of its links, and a change of any name on the
//! way may be another file.

use std::ffi::OsString;
use std::io;
use std::path::{Component, Path, PathBuf};

/// How many links are followed, as Linux does (`path_resolution(7)`).
const MAX_LINKS: usize = 40;

/// A path and its links. The end need not exist: a link may point to a file that is yet to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Links {
    /// The path without a link in it.
    pub end: PathBuf,
    /// The links to the file itself, in the order in which they are followed. Links to a folder on the
    /// way are not included.
    pub of_file: Vec<PathBuf>,
    /// Every link on the way, and the end: changing one of these may change the file.
    pub names: Vec<PathBuf>,
}

/// Follows all links of `path`.
///
/// # Errors
/// More than 40 links, as in a loop.
pub fn follow(path: &Path) -> io::Result<Links> {
    let mut to_go = components(path);
    let mut links = Links {
        end: PathBuf::new(),
        of_file: Vec::new(),
        names: Vec::new(),
    };
    while let Some(component) = to_go.pop() {
        let next = links.end.join(&component);
        // A path that cannot be read as a link is no link, or a later call reports what is wrong with it.
        let Ok(target) = std::fs::read_link(&next) else {
            links.end = next;
            continue;
        };
        if links.names.len() == MAX_LINKS {
            let why = format!("{}: symbolic links in a loop", path.display());
            return Err(io::Error::other(why));
        }
        if to_go.is_empty() {
            links.of_file.push(next.clone());
        }
        links.names.push(next);
        if target.is_absolute() {
            links.end = PathBuf::new();
        }
        to_go.extend(components(&target));
    }
    links.names.push(links.end.clone());
    Ok(links)
}

/// The parts of a path, the last one first.
fn components(path: &Path) -> Vec<OsString> {
    let parts = path.components().rev();
    parts
        .filter(|part| *part != Component::CurDir)
        .map(|part| part.as_os_str().to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_are_followed_to_the_end_and_every_name_on_the_way_is_told() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let base = temp.path().canonicalize().expect("there");
        let at = |name: &str| base.join(name);
        fs::create_dir_all(at("v1/deep")).expect("a folder");
        fs::write(at("v1/a.json"), "1").expect("written");
        // As kubelet mounts a ConfigMap.
        symlink("v1", at("..data")).expect("linked");
        symlink("..data/a.json", at("a.json")).expect("linked");
        symlink(at("a.json"), at("absolute.json")).expect("linked");
        symlink("v1/deep/../a.json", at("up.json")).expect("linked");
        symlink("v1/new.json", at("dangling.json")).expect("linked");
        let check = |name: &str, end: &str, names: &[&str], of_file: usize| {
            let links = follow(&at(name)).expect("no loop");
            assert_eq!(links.names.last(), Some(&links.end), "{name}");
            let names: Vec<PathBuf> = names.iter().map(|name| at(name)).collect();
            assert_eq!(links.names[..links.names.len() - 1], names, "{name}");
            assert_eq!(links.of_file.len(), of_file, "{name}");
            match links.end.canonicalize() {
                Ok(real) => assert_eq!(real, at(end), "{name}"),
                Err(_) => assert_eq!(links.end, at(end), "{name}"),
            }
        };
        check("v1/a.json", "v1/a.json", &[], 0);
        check("a.json", "v1/a.json", &["a.json", "..data"], 1);
        check("..data/a.json", "v1/a.json", &["..data"], 0);
        let all = ["absolute.json", "a.json", "..data"];
        check("absolute.json", "v1/a.json", &all, 2);
        check("up.json", "v1/a.json", &["up.json"], 1);
        check("dangling.json", "v1/new.json", &["dangling.json"], 1);
        check("none.json", "none.json", &[], 0);
    }

    #[test]
    fn a_loop_is_an_error() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let (one, two) = (temp.path().join("one"), temp.path().join("two"));
        symlink(&two, &one).expect("linked");
        symlink(&one, &two).expect("linked");
        let error = follow(&one).expect_err("a loop");
        assert!(error.to_string().contains("loop"), "{error}");
    }
}
