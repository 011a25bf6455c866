//! Installing a seccomp filter (seccomp(2)) in the calling thread, and in those it starts later.

use std::io;

use libc::{sock_filter, sock_fprog};

/// What the kernel does about calls that a filter denies, beside denying them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// Each stands in its audit log.
    Logged,
    Silent,
}

/// Installs `program`, for good and beside those that are there. The thread must have
/// `no_new_privs`.
///
/// `SPEC_ALLOW`: before Linux 5.16 a filter brings mitigations against speculation with it that
/// tell on every branch of the data path. They keep programs from reading their own memory, as a
/// browser's scripts might; nobody's code but ours runs here.
pub fn install(program: seccompiler::BpfProgramRef<'_>, denied: Denied) -> io::Result<()> {
    let program = sock_fprog {
        len: program.len() as libc::c_ushort,
        filter: program.as_ptr().cast::<sock_filter>().cast_mut(),
    };
    let flags = libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW
        | match denied {
            Denied::Logged => libc::SECCOMP_FILTER_FLAG_LOG,
            Denied::Silent => 0,
        };
    // SAFETY: the argument is one sock_fprog, whose filter points to as many instructions as it
    // says; both crates give them the kernel's layout, and the kernel copies them before it returns.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            &raw const program,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

    #[test]
    fn a_denied_call_fails_in_this_thread_and_nowhere_else() {
        let arch = TargetArch::try_from(std::env::consts::ARCH).expect("one of ours");
        let denied = SeccompAction::Errno(libc::ENOTBLK as u32);
        let rules = [(libc::SYS_getppid, vec![])].into();
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, denied, arch);
        let program = BpfProgram::try_from(filter.expect("two actions")).expect("short");
        let parent = || {
            // SAFETY: getppid(2) takes nothing and touches no memory.
            unsafe { libc::syscall(libc::SYS_getppid) }
        };
        let confined = std::thread::spawn(move || {
            rustix::thread::set_no_new_privs(true).expect("Linux 3.5");
            install(&program, Denied::Silent).expect("Linux 4.17");
            (parent(), io::Error::last_os_error().raw_os_error())
        });
        let denied = confined.join().expect("no panic");
        assert_eq!(denied, (-1, Some(libc::ENOTBLK)));
        assert!(parent() >= 0);
    }
}
