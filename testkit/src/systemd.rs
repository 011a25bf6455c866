//! A systemd that runs, for what is packaged for it. It takes root, a cgroup of version 2 and an
//! overlay; the network is this machine's.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::Folder;
use crate::process::Program;
use crate::wait::{LONG, within};

/// Runs until dropped.
#[derive(Debug)]
pub struct Systemd {
    // Ended before the cgroup is removed.
    program: Option<Program>,
    cgroup: PathBuf,
    /// Of its first process, as this machine counts.
    pid: u32,
    _folder: Folder,
}

impl Systemd {
    /// Boots one that has each of `files` at its place; the reason where this machine lets none run.
    pub fn boot(files: &[(PathBuf, &str)]) -> Result<Systemd, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("only root can boot a systemd".to_owned());
        }
        if !Path::new("/lib/systemd/systemd").is_file() {
            return Err("systemd is not installed".to_owned());
        }
        let cgroup = cgroups()?.join(format!("wicketgate-{}", std::process::id()));
        fs::create_dir(&cgroup).map_err(|error| format!("{}: {error}", cgroup.display()))?;
        let folder = Folder::new();
        let place = folder.beside("system");
        fs::create_dir(&place).expect("a temporary folder");
        let mut command = Command::new("sh");
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/systemd.sh"));
        command.arg(&cgroup).arg(&place);
        for (file, place) in files {
            command.arg(format!("{}={place}", file.display()));
        }
        let mut systemd = Systemd {
            program: Some(Program::spawn(command)),
            cgroup,
            pid: 0,
            _folder: folder,
        };
        let is_up = within(LONG, || systemd.is_up());
        match is_up {
            Some(true) => Ok(systemd),
            _ => Err("systemd does not come up in namespaces here".to_owned()),
        }
    }

    /// Whether it has come up; nothing as long as it may still do.
    fn is_up(&mut self) -> Option<bool> {
        let program = self.program.as_mut().expect("until it is dropped");
        if !program.is_running() {
            return Some(false);
        }
        let unshare = program.pid();
        let children = fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children"));
        self.pid = children.ok()?.trim().parse().ok()?;
        let said = self.run("systemctl", &["is-system-running"]);
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        matches!(said.trim(), "running" | "degraded").then_some(true)
    }

    /// Runs a program as it would be typed there.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.pid.to_string(), "--all", program]);
        command.args(arguments).stdin(Stdio::null());
        command.output().expect("nsenter comes with unshare")
    }

    /// What a program that has to succeed says.
    #[track_caller]
    pub fn say(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.run(program, arguments);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let complaint = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            let journal = self.run("journalctl", &["--no-pager", "--lines=20"]).stdout;
            let journal = String::from_utf8_lossy(&journal);
            panic!("{program} {arguments:?}: {said}{complaint}{journal}");
        }
        said.trim().to_owned()
    }

    /// A property of a unit.
    #[track_caller]
    pub fn show(&self, unit: &str, property: &str) -> String {
        self.say("systemctl", &["show", "--value", "-p", property, unit])
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        self.program = None;
        // Its processes end after the first one; a cgroup that is left hurts nobody.
        if within(LONG, || remove(&self.cgroup).ok()).is_none() {
            eprintln!("{} is left", self.cgroup.display());
        }
    }
}

/// Where cgroups of version 2 are mounted.
fn cgroups() -> Result<PathBuf, String> {
    let mounts = fs::read_to_string("/proc/self/mounts").map_err(|error| error.to_string())?;
    let fields = mounts.lines().map(|line| line.split(' '));
    let mut found = fields.filter_map(|mut fields| {
        let place = fields.nth(1)?;
        (fields.next() == Some("cgroup2")).then(|| PathBuf::from(place))
    });
    found.next().ok_or("no cgroup2 is mounted".to_owned())
}

/// Removes a cgroup and those within it.
fn remove(cgroup: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(cgroup)? {
        let path = entry?.path();
        if path.is_dir() {
            remove(&path)?;
        }
    }
    fs::remove_dir(cgroup)
}
