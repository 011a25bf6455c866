//! Landlock: which files the process may still open (`landlock(7)`, Linux 5.13).
//!
//! A rule is about a folder as it stands at the start and all that is ever in it, so what it holds may
//! be replaced, but not the folder itself by another one. So the rule is about the contract's folder:
//! `config/` in it may be moved away and put back, or mounted over. Kubernetes mounts a ConfigMap as
//! one folder, whose files are links into folders within it that come and go: the rule covers those
//! too.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, BitFlags, PathBeneath, PathFd, PathFdError, Ruleset,
    RulesetAttr as _, RulesetCreated, RulesetCreatedAttr as _, RulesetError, RulesetStatus,
};

use super::Wanted;

/// Newer kernels restrict more kinds of access than this build knows of; what it knows is enough
/// for files.
const KNOWN: ABI = ABI::V5;

/// The folders in which the process still has something to do.
#[derive(Debug)]
pub struct Folders {
    /// The configuration is read in these, at every reload.
    pub readable: Vec<PathBuf>,
    /// The pid file and the admin socket are removed from it at the end.
    run: PathBuf,
    /// They are still to be made there.
    makes_files: bool,
    /// The log file is made anew in these once the old one was moved away.
    log: Vec<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    #[error(transparent)]
    Folder(#[from] PathFdError),
    #[error(transparent)]
    Ruleset(#[from] RulesetError),
    #[error("the kernel lacks it, or it is switched off")]
    Absent,
}

impl Folders {
    pub fn of(wanted: &Wanted<'_>) -> Folders {
        let folder = folder_of(wanted.config);
        let readable = match folder.starts_with(wanted.root) {
            true => wanted.root.to_owned(),
            false => folder,
        };
        let log = wanted.log_file;
        Folders {
            readable: with_target_of(wanted.config, readable),
            run: folder_of(wanted.pid_file),
            makes_files: wanted.makes_files,
            log: log.map_or(Vec::new(), |file| with_target_of(file, folder_of(file))),
        }
    }

    /// Whether the rules let the pid file and the admin socket be made. A folder that does not stand
    /// yet has no rule, and one for what it will stand in would be about the configuration too.
    pub fn makes_files(&self) -> bool {
        self.makes_files && self.run.is_dir()
    }
}

/// `folder`, and that of what `file` is a link to, where that stands elsewhere.
fn with_target_of(file: &Path, folder: PathBuf) -> Vec<PathBuf> {
    let target = file.canonicalize().ok().map(|target| folder_of(&target));
    let is_within = |target: &Path| {
        let folder = folder.canonicalize();
        folder.is_ok_and(|folder| target.starts_with(folder))
    };
    let target = target.filter(|target| !is_within(target));
    std::iter::once(folder).chain(target).collect()
}

fn folder_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        Some(_) | None => PathBuf::from("."),
    }
}

/// From here on the calling thread and its later children open nothing outside of `folders`. What is
/// open stays open.
pub fn restrict(folders: &Folders) -> Result<(), FilesError> {
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_all(KNOWN))?
        .create()?;
    for folder in &folders.readable {
        rules = allow(rules, folder, AccessFs::ReadFile.into())?;
    }
    // On a disk that is read-only it may not exist, and then nothing in it is ours.
    if folders.run.is_dir() {
        rules = allow(rules, &folders.run, AccessFs::RemoveFile.into())?;
    }
    if folders.makes_files() {
        let make = AccessFs::MakeReg | AccessFs::MakeSock;
        let write = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::Truncate;
        rules = allow(rules, &folders.run, make | write)?;
    }
    for log in &folders.log {
        rules = allow(rules, log, AccessFs::WriteFile | AccessFs::MakeReg)?;
    }
    match rules.restrict_self()?.ruleset {
        RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => Ok(()),
        RulesetStatus::NotEnforced => Err(FilesError::Absent),
    }
}

fn allow(
    rules: RulesetCreated,
    folder: &Path,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, FilesError> {
    Ok(rules.add_rule(PathBeneath::new(PathFd::new(folder)?, access))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_and_logged_to_in_its_folder_and_in_that_of_its_target() {
        let root = std::env::temp_dir().join(format!("wicketgate-links-{}", std::process::id()));
        let (mounted, inside, elsewhere) = (
            root.join("mounted"),
            root.join("mounted/..2026"),
            root.join("elsewhere"),
        );
        for folder in [&inside, &elsewhere] {
            std::fs::create_dir_all(folder).expect("a temporary folder");
            std::fs::write(folder.join("a.json"), "{}").expect("written");
        }
        // As a ConfigMap is mounted: a link to a link to a folder beside it.
        let link = |to: &str, name: &str| {
            std::os::unix::fs::symlink(to, mounted.join(name)).expect("linked");
        };
        link("..2026", "..data");
        link("..data/a.json", "config_map.json");
        link("../elsewhere/a.json", "far.json");
        let of = |name: &str| {
            let config = mounted.join(name);
            let wanted = Wanted {
                sandbox: true,
                keep_bind: false,
                is_other_user: false,
                root: &root.join("control"),
                config: &config,
                pid_file: Path::new("proxy.pid"),
                log_file: Some(&config),
                makes_files: false,
            };
            Folders::of(&wanted)
        };
        let (near, far) = (of("config_map.json"), of("far.json"));
        let elsewhere = elsewhere.canonicalize().expect("it stands");
        std::fs::remove_dir_all(&root).expect("removed");
        assert_eq!(near.readable, [mounted.as_path()]);
        assert_eq!((&near.log, &far.log), (&near.readable, &far.readable));
        assert_eq!(far.readable, [mounted, elsewhere]);
        assert_eq!(near.run, Path::new("."));
    }
}
