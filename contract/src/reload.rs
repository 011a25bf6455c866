//! Signals the proxy, and no other process, to read its file again (invariant 6).
//!
//! The order matters: first a pidfd, which pins one process for good, then the proof that this
//! process is the proxy, then the signal through the pidfd. A pid reused in between changes nothing.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::pidfile::{self, Evidence, LockHolder, ReadError};

/// The process names that count as a proxy where the pid file is not locked.
pub const DEFAULT_PROCESS_NAMES: [&str; 2] = ["proxy_server", "dummy_proxy"];

/// Why no signal was sent.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // The messages say it.
pub enum NotSent {
    #[error(transparent)]
    PidFile(#[from] ReadError),
    #[error("no process with pid={0}: the proxy is not running")]
    NoProcess(i32),
    #[error("pid file of pid={pid}: {error}")]
    NoEvidence { pid: i32, error: std::io::Error },
    #[error("pid={pid} is not proven to be the proxy: {why}; no signal was sent")]
    NoProof { pid: i32, why: String },
    #[error("pid={pid}: {error}")]
    Refused { pid: i32, error: rustix::io::Errno },
}

/// Sends SIGHUP to the process that the pid file names, if that is proven to be the proxy: by its
/// lock on the file, or else by having started before the file was written under one of
/// `process_names`. Returns its pid.
pub fn send_sighup(pid_file: &Path, process_names: &[String]) -> Result<i32, NotSent> {
    let (pid, process) = proven_process(pid_file, process_names)?;
    pidfd_send_signal(&process, Signal::HUP).map_err(|error| NotSent::Refused { pid, error })?;
    Ok(pid)
}

/// The pid of the proxy, with the same proof and without a signal.
pub fn find_proxy(pid_file: &Path, process_names: &[String]) -> Result<i32, NotSent> {
    proven_process(pid_file, process_names).map(|(pid, _)| pid)
}

fn proven_process(pid_file: &Path, process_names: &[String]) -> Result<(i32, OwnedFd), NotSent> {
    let announced = pidfile::read(pid_file)?;
    let pid = announced.pid.as_raw_nonzero().get();
    let process = pidfd_open(announced.pid, PidfdFlags::empty()).map_err(|error| match error {
        rustix::io::Errno::SRCH => NotSent::NoProcess(pid),
        error => NotSent::Refused { pid, error },
    })?;
    // A zombie: it accepts signals but no longer does anything.
    if Process::read(announced.pid).is_some_and(|process| process.has_ended) {
        return Err(NotSent::NoProcess(pid));
    }
    // Read only now: before the process was pinned, another one may have held the lock.
    let evidence = announced.evidence();
    let evidence = evidence.map_err(|error| NotSent::NoEvidence { pid, error })?;
    prove(announced.pid, evidence, process_names).map_err(|why| NotSent::NoProof { pid, why })?;
    Ok((pid, process))
}

fn prove(pid: Pid, evidence: Evidence, process_names: &[String]) -> Result<(), String> {
    match evidence.lock_holder {
        LockHolder::Process(holder) if holder == pid.as_raw_nonzero().get() => Ok(()),
        LockHolder::Process(holder) => Err(format!("the pid file is locked by pid={holder}")),
        // In the holder's pid namespace, the number may name another process than in ours.
        LockHolder::Unseen => {
            Err("the pid file is locked by a process that is not visible from here".to_owned())
        }
        LockHolder::Nobody => prove_by_age_and_name(pid, evidence, process_names),
    }
}

/// A file written by hand or by another tool has no lock; then only its owner or group may be able to
/// write it.
fn prove_by_age_and_name(pid: Pid, evidence: Evidence, names: &[String]) -> Result<(), String> {
    const TOLERANCE_S: i64 = 2;
    if evidence.anybody_may_write {
        return Err("the pid file is not locked, and any user can write it".to_owned());
    }
    let process = Process::read(pid).ok_or("its /proc entry cannot be read")?;
    // The kernel keeps 15 bytes of a name.
    let is_named = |name: &String| name.get(..15).unwrap_or(name) == process.name;
    if !names.iter().any(is_named) {
        return Err(format!(
            "its name is {:?}, not one of {}",
            process.name,
            names.join(", ")
        ));
    }
    if process.started_at > evidence.written_at + TOLERANCE_S {
        return Err("it started after the pid file was written".to_owned());
    }
    Ok(())
}

struct Process {
    name: String,
    has_ended: bool,
    /// Unix seconds.
    started_at: i64,
}

impl Process {
    /// `/proc/PID/stat`, see proc_pid_stat(5): the name is field 2, in parentheses and cut to 15
    /// bytes; the state is field 3; the start is field 22, in clock ticks since boot.
    fn read(pid: Pid) -> Option<Process> {
        let stat = fs::read(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
        let stat = String::from_utf8_lossy(&stat);
        // The name may itself hold parentheses, so it ends at the last one.
        let (before, after) = stat.rsplit_once(')')?;
        let name = before.split_once('(')?.1.to_owned();
        const FIELDS_AFTER_NAME: usize = 3;
        let mut fields = after.split_whitespace();
        let state = fields.next()?;
        let ticks: u64 = fields.nth(22 - FIELDS_AFTER_NAME - 1)?.parse().ok()?;
        let since_boot = (ticks / rustix::param::clock_ticks_per_second()) as i64;
        Some(Process {
            name,
            has_ended: matches!(state, "Z" | "X"),
            started_at: boot_time()? + since_boot,
        })
    }
}

fn boot_time() -> Option<i64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines()
        .find_map(|line| line.strip_prefix("btime "))?
        .trim()
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::{Child, Command};
    use std::time::{Duration, Instant};

    struct Bystander(Child);

    impl Bystander {
        fn start() -> Bystander {
            // Under nohup the tests ignore hang-ups, and hand that on to whom they start.
            let mut command = Command::new("env");
            command.args(["--default-signal=HUP", "sleep", "60"]);
            let child = command.spawn().expect("sleep starts");
            let mut bystander = Bystander(child);
            bystander.await_name("sleep");
            bystander
        }

        /// Awaits that `env` has become what it was told to start.
        fn await_name(&mut self, name: &str) {
            let deadline = Instant::now() + Duration::from_secs(10);
            let is_named = |process: Process| process.name == name;
            while !Process::read(Pid::from_child(&self.0)).is_some_and(is_named) {
                assert!(Instant::now() < deadline, "no process called {name}");
                std::thread::sleep(Duration::from_millis(1));
            }
        }

        fn is_unharmed(&mut self) -> bool {
            self.0.try_wait().expect("our child").is_none()
        }
    }

    impl Drop for Bystander {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_process_of_another_name_is_not_signalled() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let path = temp.path().join("proxy.pid");
        let mut bystander = Bystander::start();
        fs::write(&path, bystander.0.id().to_string()).expect("written");
        let sent = send_sighup(&path, &names(&DEFAULT_PROCESS_NAMES));
        assert!(matches!(sent, Err(NotSent::NoProof { .. })), "{sent:?}");
        assert!(bystander.is_unharmed());
    }

    #[test]
    fn a_process_that_started_after_the_file_is_not_signalled() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let path = temp.path().join("proxy.pid");
        let mut bystander = Bystander::start();
        fs::write(&path, bystander.0.id().to_string()).expect("written");
        let long_ago = std::time::SystemTime::now() - Duration::from_secs(60);
        fs::File::options()
            .write(true)
            .open(&path)
            .expect("opened")
            .set_modified(long_ago)
            .expect("dated back");
        let sent = send_sighup(&path, &names(&["sleep"]));
        assert!(matches!(sent, Err(NotSent::NoProof { .. })), "{sent:?}");
        assert!(bystander.is_unharmed());
    }

    #[test]
    fn a_process_that_has_ended_and_was_not_waited_for_is_none() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let path = temp.path().join("proxy.pid");
        let mut process = Bystander::start();
        fs::write(&path, process.0.id().to_string()).expect("written");
        process.0.kill().expect("our child");
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            match send_sighup(&path, &names(&["sleep"])) {
                Err(NotSent::NoProcess(pid)) => break assert_eq!(pid, process.0.id() as i32),
                sent => assert!(Instant::now() < deadline, "{sent:?}"),
            }
        }
    }

    #[test]
    fn a_proven_process_gets_the_signal() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let path = temp.path().join("proxy.pid");
        let mut process = Bystander::start();
        fs::write(&path, process.0.id().to_string()).expect("written");
        let sent = send_sighup(&path, &names(&["sleep"]));
        assert_eq!(sent.expect("sent"), process.0.id() as i32);
        let status = process.0.wait().expect("our child");
        assert_eq!(status.signal(), Some(Signal::HUP.as_raw()));
    }

    #[test]
    fn a_lock_of_somebody_unseen_is_no_proof() {
        let ours = rustix::process::getpid();
        let evidence = Evidence {
            lock_holder: LockHolder::Unseen,
            written_at: i64::MAX / 2,
            anybody_may_write: false,
        };
        let own_name = Process::read(ours).expect("our own /proc entry").name;
        assert!(prove(ours, evidence, std::slice::from_ref(&own_name)).is_err());
        let unlocked = Evidence {
            lock_holder: LockHolder::Nobody,
            ..evidence
        };
        assert_eq!(prove(ours, unlocked, &[own_name]), Ok(()));
    }

    #[test]
    fn an_unlocked_file_that_anybody_may_write_is_no_proof() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let path = temp.path().join("proxy.pid");
        let mut bystander = Bystander::start();
        fs::write(&path, bystander.0.id().to_string()).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("ours");
        let sent = send_sighup(&path, &names(&["sleep"]));
        assert!(matches!(sent, Err(NotSent::NoProof { .. })), "{sent:?}");
        assert!(bystander.is_unharmed());
    }

    #[test]
    fn a_dead_pid_is_told() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let path = temp.path().join("proxy.pid");
        // Process ids end at 2^22 on Linux.
        fs::write(&path, "4194305").expect("written");
        let sent = send_sighup(&path, &names(&DEFAULT_PROCESS_NAMES));
        assert!(
            matches!(sent, Err(NotSent::NoProcess(4_194_305))),
            "{sent:?}"
        );
    }
}
