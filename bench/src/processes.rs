//! What a program under test uses, read from `/proc`: CPU time, memory and wake-ups of its whole
//! process tree.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A process and all that descend from it.
#[derive(Debug, Clone, Copy)]
pub struct ProcessTree {
    root: u32,
}

impl ProcessTree {
    pub fn of(root: u32) -> ProcessTree {
        ProcessTree { root }
    }

    /// User and system time so far. Threads that have ended are not in it: none of the programs
    /// ends one while it is measured.
    pub fn cpu_time(self) -> Duration {
        self.threads()
            .iter()
            .map(|thread| cpu_time_of(thread))
            .sum()
    }

    /// Resident memory, shared pages counted in each process; a difference of two readings is free
    /// of them.
    pub fn resident_bytes(self) -> u64 {
        self.pids().into_iter().map(resident_bytes_of).sum()
    }

    /// How often its threads have gone to sleep, which is how often they were woken.
    pub fn wakeups(self) -> u64 {
        let key = "voluntary_ctxt_switches:";
        let threads = self.threads();
        let counts = threads
            .iter()
            .map(|thread| field_of(&thread.join("status"), key));
        counts.map(Option::unwrap_or_default).sum()
    }

    /// The folder of each thread below `/proc`.
    pub fn threads(self) -> Vec<PathBuf> {
        let folders = self
            .pids()
            .into_iter()
            .map(|pid| format!("/proc/{pid}/task"));
        let entries = folders
            .filter_map(|folder| fs::read_dir(folder).ok())
            .flatten();
        entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .collect()
    }

    fn pids(self) -> Vec<u32> {
        let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
        for pid in numbered_folders() {
            if let Some(parent) = parent_of(pid) {
                children.entry(parent).or_default().push(pid);
            }
        }
        let mut pids = vec![self.root];
        let mut next = 0;
        while next < pids.len() {
            pids.extend(children.remove(&pids[next]).unwrap_or_default());
            next += 1;
        }
        pids
    }
}

fn numbered_folders() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten();
    let name =
        |entry: std::io::Result<fs::DirEntry>| entry.ok()?.file_name().to_str()?.parse().ok();
    entries.filter_map(name).collect()
}

fn parent_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat_field(&stat, 4)?.parse().ok()
}

/// CPU time of one thread, given by its folder below `/proc`.
///
/// The first field of `schedstat` has nanoseconds; the ticks of `stat` serve where the kernel does
/// not keep it.
fn cpu_time_of(thread: &Path) -> Duration {
    let nanoseconds = fs::read_to_string(thread.join("schedstat"))
        .ok()
        .and_then(|text| text.split_whitespace().next()?.parse().ok());
    match nanoseconds {
        Some(nanoseconds) => Duration::from_nanos(nanoseconds),
        None => ticks_of(thread).unwrap_or_default(),
    }
}

fn ticks_of(thread: &Path) -> Option<Duration> {
    let stat = fs::read_to_string(thread.join("stat")).ok()?;
    let user: u64 = stat_field(&stat, 14)?.parse().ok()?;
    let system: u64 = stat_field(&stat, 15)?.parse().ok()?;
    let seconds = (user + system) as f64 / rustix::param::clock_ticks_per_second() as f64;
    Some(Duration::from_secs_f64(seconds))
}

/// A field of proc_pid_stat(5), numbered as there. The name is field 2 and may hold anything, so
/// it ends at the last parenthesis.
fn stat_field(stat: &str, number: usize) -> Option<&str> {
    const FIELDS_THROUGH_NAME: usize = 2;
    let (_, after) = stat.rsplit_once(')')?;
    after
        .split_whitespace()
        .nth(number - FIELDS_THROUGH_NAME - 1)
}

/// From `smaps_rollup`, which is exact; the counters of `statm` lag by some pages a core.
fn resident_bytes_of(pid: u32) -> u64 {
    let path = format!("/proc/{pid}/smaps_rollup");
    let kib = field_of(Path::new(&path), "Rss:");
    kib.unwrap_or_default() * 1024
}

/// The number after `key` at the beginning of a line.
fn field_of(path: &Path, key: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(key))?;
    value.split_whitespace().next()?.parse().ok()
}

/// CPU time that all cores together have spent busy since the machine started.
pub fn busy_time_of_machine() -> Duration {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let ticks = busy_ticks(stat.lines().next().unwrap_or_default());
    Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// From the line `cpu user nice system idle iowait irq softirq steal guest guest_nice` of
/// proc_stat(5); guest time is in user time already.
fn busy_ticks(line: &str) -> u64 {
    const IDLE: usize = 3;
    const IOWAIT: usize = 4;
    const FIELDS: usize = 8;
    let fields = line.split_whitespace().skip(1).take(FIELDS).enumerate();
    let busy = fields.filter(|(index, _)| ![IDLE, IOWAIT].contains(index));
    busy.filter_map(|(_, ticks)| ticks.parse::<u64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command, Stdio};

    struct Shell(Child);

    impl Drop for Shell {
        fn drop(&mut self) {
            // Closing its input ends it; its child ends with the pipe.
            drop(self.0.stdin.take());
            let _ = self.0.wait();
        }
    }

    #[test]
    fn a_tree_has_its_children_and_what_they_use() {
        let mut command = Command::new("/bin/sh");
        let script =
            "/bin/sh -c 'i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done; echo done; read x'";
        command.args(["-c", &format!("{script}; read x")]);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut shell = Shell(child.expect("a shell"));
        let mut line = String::new();
        let output = shell.0.stdout.take().expect("piped");
        std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line)
            .expect("a line");
        let tree = ProcessTree::of(shell.0.id());
        assert_eq!(tree.pids().len(), 2);
        assert!(
            tree.cpu_time() > Duration::from_millis(1),
            "{:?}",
            tree.cpu_time()
        );
        assert!(tree.resident_bytes() > 4096);
    }

    #[test]
    fn fields_are_counted_as_in_the_manual() {
        let stat = "7 (a) b) S 3 4 5 6 7 8 9 10 11 12 13 140 150 16";
        assert_eq!(stat_field(stat, 3), Some("S"));
        assert_eq!(stat_field(stat, 4), Some("3"));
        assert_eq!(stat_field(stat, 14), Some("13"));
        assert_eq!(
            busy_ticks("cpu  1 2 4 1000 2000 8 16 32 64 128"),
            1 + 2 + 4 + 8 + 16 + 32
        );
    }
}
