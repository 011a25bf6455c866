//! The digests of the latest published generations, and whether what the proxy runs is one of them.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use contract::status::Running;

/// How many generations are kept: more than a responding proxy can be behind.
const KEPT: usize = 64;

#[derive(Debug, Default)]
pub struct Digests {
    /// Generation and [`config_digest`](contract::config_digest()), oldest first.
    published: VecDeque<(u64, String)>,
    /// The file that control writes, at the end of any links. Looked up beside reads and writes of it,
    /// which happen away from the runtime's thread: a disk may hang.
    path: PathBuf,
}

/// The file at the end of any links, if its disk responds.
pub fn end_of(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// What a proxy runs, compared with what was published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Runs {
    /// The generation in question, or a later one that control published.
    Published,
    /// A generation at least this high, of a proxy that does not report a digest.
    Unverified,
    /// An earlier generation that control published.
    Earlier,
    /// Something that control has not published, from the file that control writes or an unknown one.
    Unpublished,
    /// Something that control has not published, from another file.
    OtherFile(OtherFile),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherFile {
    /// The file that the proxy reads.
    pub proxy: String,
    /// The file that control writes.
    pub control: String,
}

impl std::fmt::Display for OtherFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let OtherFile { proxy, control } = self;
        write!(
            f,
            "the proxy reads another file: it reads {proxy}, control writes {control}"
        )
    }
}

impl Digests {
    /// Of the file at `path`, at the end of any links.
    pub fn at(path: PathBuf) -> Digests {
        Digests {
            published: VecDeque::new(),
            path,
        }
    }

    /// The links lead to `path` now.
    pub fn move_to(&mut self, path: PathBuf) {
        self.path = path;
    }

    pub fn add(&mut self, generation: u64, digest: String) {
        if self.published.back() == Some(&(generation, digest.clone())) {
            return;
        }
        if self.published.len() == KEPT {
            self.published.pop_front();
        }
        self.published.push_back((generation, digest));
    }

    /// Compares `running` with generation `asked`.
    pub fn judge(&self, running: &Running, asked: u64) -> Runs {
        let is_behind = running.generation < asked;
        let Some(digest) = &running.config_digest else {
            return match is_behind {
                true => Runs::Earlier,
                false => Runs::Unverified,
            };
        };
        let mut published = self.published.iter();
        if published.any(|(generation, known)| *generation >= asked && known == digest) {
            // The same configuration may be an earlier generation's too.
            return match is_behind {
                true => Runs::Earlier,
                false => Runs::Published,
            };
        }
        let is_known = self.published.iter().any(|(_, known)| known == digest);
        if let Some(path) = running.config_path.as_deref()
            && !is_known
            && Path::new(path) != self.path
        {
            return Runs::OtherFile(OtherFile {
                proxy: path.to_owned(),
                control: self.path.display().to_string(),
            });
        }
        match is_behind {
            true => Runs::Earlier,
            false => Runs::Unpublished,
        }
    }

    /// Whether the proxy has read something from control's file that control did not write:
    /// another content, or a generation above the `newest` one.
    pub fn is_foreign(&self, running: &Running, newest: u64) -> bool {
        let is_newer = running.generation > newest;
        if !is_newer && self.judge(running, newest) != Runs::Unpublished {
            return false;
        }
        let path = running.config_path.as_deref();
        path.is_none_or(|path| Path::new(path) == self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(generation: u64, digest: Option<&str>, path: Option<&str>) -> Running {
        Running {
            pid: 7,
            started_at_ms: None,
            generation,
            digest: String::new(),
            config_digest: digest.map(str::to_owned),
            config_path: path.map(str::to_owned),
            loaded_at_ms: 0,
            last_reload: None,
            listeners: vec![],
            addresses: vec![],
            refusals: vec![],
        }
    }

    #[test]
    fn what_the_proxy_runs_is_judged_by_its_digest() {
        let ours = "/nowhere/proxy_config.json";
        let other = OtherFile {
            proxy: "/else".to_owned(),
            control: ours.to_owned(),
        };
        let mut digests = Digests::at(ours.into());
        for (generation, digest) in [(4, "d4"), (5, "d5"), (6, "d6"), (7, "d5")] {
            digests.add(generation, digest.to_owned());
        }
        let cases = [
            (5, Some("d5"), Some(ours), 5, Runs::Published),
            (6, Some("d6"), Some(ours), 5, Runs::Published),
            (4, Some("d4"), Some(ours), 5, Runs::Earlier),
            (5, Some("d5"), Some(ours), 6, Runs::Earlier),
            (5, Some("xx"), Some(ours), 5, Runs::Unpublished),
            (5, Some("xx"), None, 5, Runs::Unpublished),
            (
                5,
                Some("xx"),
                Some("/else"),
                5,
                Runs::OtherFile(other.clone()),
            ),
            (1, Some("xx"), Some("/else"), 5, Runs::OtherFile(other)),
            // Another name of the same content, as in another container.
            (5, Some("d5"), Some("/else"), 5, Runs::Published),
            (50, Some("d4"), Some(ours), 5, Runs::Unpublished),
            (5, None, None, 5, Runs::Unverified),
            (4, None, None, 5, Runs::Earlier),
        ];
        for (generation, digest, path, asked, expected) in cases {
            let found = digests.judge(&running(generation, digest, path), asked);
            assert_eq!(
                found, expected,
                "{generation} {digest:?} {path:?} for {asked}"
            );
        }
    }

    #[test]
    fn what_others_wrote_into_our_file_is_foreign() {
        let ours = "/nowhere/proxy_config.json";
        let mut digests = Digests::at(ours.into());
        digests.add(5, "d5".to_owned());
        digests.add(6, "d6".to_owned());
        let cases = [
            (6, Some("d6"), Some(ours), false),
            (6, Some("d5"), Some(ours), true),
            (6, Some("xx"), Some(ours), true),
            (6, Some("xx"), None, true),
            (7, Some("d6"), Some(ours), true),
            (7, None, None, true),
            (6, None, None, false),
            // It reads ours at the next signal.
            (5, Some("xx"), Some(ours), false),
            (5, Some("d5"), Some(ours), false),
            (6, Some("xx"), Some("/else"), false),
            (7, Some("d6"), Some("/else"), false),
        ];
        for (generation, digest, path, expected) in cases {
            let found = digests.is_foreign(&running(generation, digest, path), 6);
            assert_eq!(found, expected, "{generation} {digest:?} {path:?}");
        }
    }

    #[test]
    fn only_the_latest_are_kept() {
        let mut digests = Digests::at("/nowhere".into());
        for generation in 0..KEPT as u64 * 2 {
            digests.add(generation, generation.to_string());
            digests.add(generation, generation.to_string());
        }
        assert_eq!(digests.published.len(), KEPT);
    }
}
