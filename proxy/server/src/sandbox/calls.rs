//! Seccomp: the system calls that the process may still make.
//!
//! A list of what is allowed. What a session, a flow or a wake-up takes stands in [`PLAIN`], whose
//! calls are allowed whatever their arguments: the kernel (5.11) notes such calls in a bitmap when
//! the filter is installed and never runs the filter for them. Every other call fails as if the
//! kernel did not have it, and is noted in the kernel's audit log. It does not end the process: a
//! newer C library tries newer calls first, is prepared to find them absent, and must not cost
//! everybody their sessions.

use std::collections::BTreeMap;
use std::io;

use libc::c_long;
use proxy_sys::seccomp::{Denied, install};
use seccompiler::SeccompCmpOp::{Eq, MaskedEq};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

/// Allowed with any arguments.
const PLAIN: &[c_long] = &[
    // The data path.
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_close,
    libc::SYS_connect,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_fcntl,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_listen,
    libc::SYS_pipe2,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    libc::SYS_recvmmsg,
    libc::SYS_recvmsg,
    libc::SYS_sendmmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_splice,
    libc::SYS_write,
    libc::SYS_writev,
    // The configuration, the pid file and the log file; Landlock says which files.
    libc::SYS_fstat,
    libc::SYS_ftruncate,
    libc::SYS_lseek,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_pwrite64,
    // Where the configuration stands, at the end of its links.
    libc::SYS_readlinkat,
    libc::SYS_statx,
    libc::SYS_unlinkat,
    // Memory.
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_munmap,
    // Threads, locks and signals.
    libc::SYS_epoll_create1,
    libc::SYS_eventfd2,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_sigaltstack,
    // Time and chance, where the kernel gives neither without a call.
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_getrandom,
    libc::SYS_gettimeofday,
    libc::SYS_nanosleep,
];

/// Older forms of some, which the C library prefers where the architecture has them.
#[cfg(target_arch = "x86_64")]
const OLDER: &[c_long] = &[libc::SYS_epoll_wait, libc::SYS_unlink];
#[cfg(not(target_arch = "x86_64"))]
const OLDER: &[c_long] = &[];

/// Allowed as well where the pid file or the admin socket is still to be made: modes, and the group of
/// the socket. Where there is Landlock it says which files may be made.
const MAKING: &[c_long] = &[
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchownat,
    libc::SYS_mkdirat,
];

/// Older forms of those.
#[cfg(target_arch = "x86_64")]
const OLDER_MAKING: &[c_long] = &[libc::SYS_chmod, libc::SYS_lchown, libc::SYS_mkdir];
#[cfg(not(target_arch = "x86_64"))]
const OLDER_MAKING: &[c_long] = &[];

/// What is looked at of a clone: that it makes a thread, in the namespaces of its process.
const CLONE: u64 = THREAD | NAMESPACES;
const THREAD: u64 = libc::CLONE_THREAD as u64;
const NAMESPACES: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u64;

/// Allowed with one of these in an argument: no memory becomes code, no kind of socket but those that
/// the proxy uses, no process beside this one. `clone3` is absent, since a filter cannot see its flags;
/// libraries then fall back to `clone`.
fn with_arguments() -> Vec<(c_long, Vec<Argument>)> {
    let executable = MaskedEq(libc::PROT_EXEC as u64);
    let socket = |domain: i32| (0, Eq, domain as u64);
    let control = |request: libc::Ioctl| (1, Eq, request);
    let ours = u64::from(std::process::id());
    vec![
        (libc::SYS_mmap, vec![(2, executable.clone(), 0)]),
        (libc::SYS_mprotect, vec![(2, executable, 0)]),
        (libc::SYS_clone, vec![(0, MaskedEq(CLONE), THREAD)]),
        (
            libc::SYS_socket,
            [
                libc::AF_INET,
                libc::AF_INET6,
                libc::AF_UNIX,
                libc::AF_NETLINK,
            ]
            .map(socket)
            .to_vec(),
        ),
        (
            libc::SYS_ioctl,
            [
                libc::FIONBIO,
                libc::FIOCLEX,
                libc::TCGETS,
                libc::TIOCOUTQ,
                // At each reload, for this host's own addresses.
                libc::SIOCGIFINDEX,
            ]
            .map(control)
            .to_vec(),
        ),
        (
            libc::SYS_prctl,
            [libc::PR_SET_NAME, libc::PR_SET_VMA]
                .map(|option| (0, Eq, option as u64))
                .to_vec(),
        ),
        // Their limits, for which the C library asks, and an abort.
        (libc::SYS_prlimit64, vec![(0, Eq, 0), (0, Eq, ours)]),
        (libc::SYS_tgkill, vec![(0, Eq, ours)]),
    ]
}

/// By number; without a rule for its arguments a call matches with any.
type Rules = BTreeMap<c_long, Vec<SeccompRule>>;

/// Its index, how it is compared, and with what.
type Argument = (u8, SeccompCmpOp, u64);

#[derive(Debug, thiserror::Error)]
pub enum CallsError {
    #[error("the list of system calls cannot be compiled: {0}")]
    Compile(#[from] seccompiler::BackendError),
    #[error("the kernel refuses it: {0}")]
    Install(#[from] io::Error),
}

/// Installs the filters in the calling thread and those it starts later. `makes_files`: the pid file or
/// the admin socket is still to be made.
pub fn restrict(makes_files: bool) -> Result<(), CallsError> {
    let absent = filter(unheard(), SeccompAction::Allow, ABSENT)?;
    install(&absent, Denied::Silent)?;
    let all = filter(allowed(makes_files)?, ABSENT, SeccompAction::Allow)?;
    Ok(install(&all, Denied::Logged)?)
}

/// As if the kernel did not have the call.
const ABSENT: SeccompAction = SeccompAction::Errno(libc::ENOSYS as u32);

/// `clone3` is denied in a filter of its own, since the C library tries it at the start of each
/// thread, which nobody wants to read in a log.
fn unheard() -> Rules {
    Rules::from([(libc::SYS_clone3, Vec::new())])
}

fn allowed(makes_files: bool) -> Result<Rules, seccompiler::BackendError> {
    let making = [MAKING, OLDER_MAKING].into_iter().filter(|_| makes_files);
    let plain = [PLAIN, OLDER].into_iter().chain(making).flatten();
    let plain = plain.map(|call| (*call, Vec::new()));
    let mut rules: Rules = plain.chain(unheard()).collect();
    for (call, arguments) in with_arguments() {
        let rule = |(index, compare, value)| {
            let length = SeccompCmpArgLen::Dword;
            SeccompRule::new(vec![SeccompCondition::new(index, length, compare, value)?])
        };
        let chain = arguments.into_iter().map(rule);
        rules.insert(call, chain.collect::<Result<_, _>>()?);
    }
    Ok(rules)
}

/// `otherwise` is done about a call without a rule, `matched` about one with.
fn filter(
    rules: Rules,
    otherwise: SeccompAction,
    matched: SeccompAction,
) -> Result<BpfProgram, seccompiler::BackendError> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    SeccompFilter::new(rules, otherwise, matched, arch)?.try_into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::net::{TcpListener, TcpStream};
    use std::process::Command;

    /// In a thread of its own, since a filter stays.
    fn confined<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> T {
        let confined = std::thread::spawn(|| {
            rustix::thread::set_no_new_privs(true).expect("Linux 3.5");
            restrict(false).expect("this kernel has seccomp");
            act()
        });
        confined.join().expect("no panic")
    }

    #[test]
    fn sockets_threads_and_files_are_let_through() {
        let bytes = confined(|| {
            let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
            let client = TcpStream::connect(listener.local_addr().expect("bound"));
            let accepted = listener.accept().expect("accepted");
            drop((client.expect("connected"), accepted));
            let large = std::thread::spawn(|| vec![1u8; 64 << 20].len());
            File::open("/proc/self/stat").expect("opened");
            large.join().expect("a thread starts")
        });
        assert_eq!(bytes, 64 << 20);
    }

    #[test]
    fn programs_and_odd_sockets_are_not() {
        let (program, socket) = confined(|| {
            let program = Command::new("true").status();
            let socket = socket2::Socket::new(libc::AF_PACKET.into(), socket2::Type::DGRAM, None);
            (program.map(drop), socket.map(drop))
        });
        for outcome in [program, socket] {
            let error = outcome.expect_err("denied");
            assert_eq!(error.raw_os_error(), Some(libc::ENOSYS), "{error}");
        }
        // Not even a process that fails to become a program is made.
        let child = rustix::process::wait(rustix::process::WaitOptions::NOHANG);
        assert_eq!(child.err(), Some(rustix::io::Errno::CHILD));
    }
}
