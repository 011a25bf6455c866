//! What stands in `packaging/` is taken by the programs that it is for.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use e2e::repository::{in_repository, packaged};
use testkit::Folder;
use testkit::process::command;

/// Above it `systemd-analyze security` calls a unit worse than "OK", in tenths.
const MOST_EXPOSED: &str = "--threshold=20";

/// What a program says of a file; `None`, which is told, where the machine lacks the program.
fn say(program: &str, arguments: &[&str], file: &Path) -> Option<(bool, String)> {
    let mut command = Command::new(program);
    command.args(arguments).arg(file).stdin(Stdio::null());
    match command.output() {
        Ok(output) => {
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said).into_owned();
            Some((output.status.success(), said))
        }
        Err(error) => {
            testkit::skipped(&format!("{program}: {error}"));
            None
        }
    }
}

#[test]
fn systemd_takes_the_units_and_finds_little_exposed() {
    let folder = Folder::new();
    let manuals = ["docs/operations.md", "docs/agent.md"].map(|manual| {
        let manual = fs::read_to_string(in_repository(manual));
        manual.expect("it is in the repository")
    });
    for (unit, program) in [
        ("wicketgate-proxy.service", "proxy_server"),
        ("wicketgate-control.service", "control_server"),
        ("wicketgate-agent.service", "gpu_agent"),
    ] {
        let text = fs::read_to_string(packaged(unit)).expect("it is in the repository");
        let installed = format!("/usr/local/bin/{program}");
        assert!(text.contains(&installed), "{unit}");
        let start = text
            .lines()
            .find_map(|line| line.strip_prefix("ExecStart=/usr/local/bin/"));
        let start = start.expect("a unit starts something");
        let is_described = |line: &str| line.split('#').next().map(str::trim) == Some(start);
        let mut lines = manuals.iter().flat_map(|manual| manual.lines());
        assert!(lines.any(is_described), "{unit}: {start}");
        let built = command(program)
            .get_program()
            .to_string_lossy()
            .into_owned();
        // systemd looks whether the program is there, so it is given the one that was built.
        let copy = folder.beside(unit);
        fs::write(&copy, text.replace(&installed, &built)).expect("a temporary folder");
        let verified = say("systemd-analyze", &["verify", "--man=no"], &copy);
        if let Some((is_right, said)) = verified {
            assert!(is_right && said.is_empty(), "{unit}: {said}");
        }
        let arguments = ["security", "--offline=true", "--no-pager", MOST_EXPOSED];
        if let Some((is_low, said)) = say("systemd-analyze", &arguments, &copy) {
            assert!(is_low, "{unit}: {said}");
        }
    }
}

#[test]
fn the_agent_takes_the_options_of_the_sidecar() {
    let path = in_repository("packaging/kubernetes/agent-sidecar.yaml");
    let text = fs::read_to_string(path).expect("it is in the repository");
    let folder = Folder::new();
    let options = text.lines().filter_map(|line| {
        let option = line.trim().strip_prefix("- \"--")?.strip_suffix('"')?;
        Some(format!("--{option}").replace("$(POD_IP)", "10.0.0.1"))
    });
    let options = options.map(|option| {
        let Some((name, path)) = option.split_once("=/etc/wicketgate/") else {
            return option;
        };
        let secret = folder.beside(path);
        fs::write(&secret, "a secret of enough bytes".replace(' ', "-")).expect("written");
        format!("{name}={}", secret.display())
    });
    let options: Vec<String> = options.collect();
    assert!(options.len() >= 6, "{options:?}");
    let mut agent = command("gpu_agent");
    let output = agent
        .args(options)
        .arg("--check")
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
}

/// The calls of a set, those of the sets within it included, as this machine's systemd knows them.
fn calls_of(set: &str) -> Option<Vec<String>> {
    let arguments = ["syscall-filter", "--no-pager"];
    let (is_known, said) = say("systemd-analyze", &arguments, Path::new(set))?;
    assert!(is_known, "{set}: {said}");
    let mut calls = Vec::new();
    // The first line is the set's name.
    for name in said.lines().skip(1).map(str::trim) {
        match name.chars().next() {
            Some('@') => calls.extend(calls_of(name)?),
            Some('#') | None => {}
            Some(_) => calls.push(name.to_owned()),
        }
    }
    Some(calls)
}

#[test]
fn the_proxys_unit_lets_it_confine_itself() {
    let unit = fs::read_to_string(packaged("wicketgate-proxy.service"));
    let unit = unit.expect("it is in the repository");
    let filters = unit
        .lines()
        .filter_map(|line| line.strip_prefix("SystemCallFilter="));
    let mut allowed = Vec::new();
    for name in filters.flat_map(str::split_whitespace) {
        match name.starts_with('@') {
            true => match calls_of(name) {
                Some(calls) => allowed.extend(calls),
                None => return,
            },
            false => allowed.push(name.to_owned()),
        }
    }
    for call in [
        "capset",
        "landlock_add_rule",
        "landlock_create_ruleset",
        "landlock_restrict_self",
        "lchown",
        "prctl",
        "seccomp",
    ] {
        assert!(allowed.iter().any(|allowed| allowed == call), "{call}");
    }
}

#[test]
fn the_users_and_folders_are_made_as_described() {
    if !rustix::process::geteuid().is_root() {
        testkit::skipped("only root can make users and give folders to them");
        return;
    }
    let folder = Folder::new();
    fs::create_dir(folder.beside("etc")).expect("a temporary folder");
    let root = format!("--root={}", folder.beside("").display());
    for (program, arguments, name) in [
        (
            "systemd-sysusers",
            vec![root.as_str()],
            "wicketgate.sysusers",
        ),
        (
            "systemd-sysusers",
            vec![root.as_str()],
            "wicketgate-agent.sysusers",
        ),
        (
            "systemd-tmpfiles",
            vec![&root, "--create"],
            "wicketgate.tmpfiles",
        ),
    ] {
        let Some((is_done, said)) = say(program, &arguments, &packaged(name)) else {
            return;
        };
        assert!(is_done, "{program}: {said}");
    }
    let users = fs::read_to_string(folder.beside("etc/passwd")).expect("made just now");
    let uid_of = |user: &str| {
        let fields = { users.lines() }.map(|line| line.split(':').collect::<Vec<_>>());
        let found = { fields }.find(|fields| fields[0] == user);
        found.and_then(|fields| fields[2].parse::<u32>().ok())
    };
    assert!(uid_of("wicketgate-agent").is_some(), "{users}");
    for (name, user, mode) in [
        ("config", "wicketgate-control", 0o2750),
        ("data", "wicketgate-control", 0o2750),
        ("logs", "wicketgate-control", 0o2750),
        ("run", "wicketgate-proxy", 0o2770),
    ] {
        let made = fs::metadata(folder.beside("var/lib/wicketgate").join(name));
        let made = made.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(made.is_dir(), "{name}");
        let (uid, found) = (Some(made.uid()), made.mode() & 0o7777);
        assert_eq!((uid, found), (uid_of(user), mode), "{name}: {found:o}");
    }
}
