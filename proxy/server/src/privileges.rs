//! Whom the process runs as, and which rights beyond that user's it keeps.
//!
//! A process that root starts becomes the user that it was told before it opens any file: what can
//! be opened at the start can then be opened at every reload and rotation, too. Until the listeners
//! are bound it keeps one right of root's, that to bind ports below 1024.
//!
//! Users, groups and capabilities are the thread's own in Linux, so all of this comes before the
//! first thread is started.

use std::convert::Infallible;
use std::str::FromStr;

use nix::unistd::{Group, User};
use rustix::process::{Gid, Uid, getegid, geteuid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_keep_capabilities,
    set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

/// A user, by name or number, and the one group to be in; without one, the user's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    user: String,
    group: Option<GroupName>,
}

/// A group, by name or number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupName(String);

#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    #[error("--user: found {0:?}, allowed: a user of this system, by name or number")]
    NoSuchUser(String),
    #[error("found {0:?}, allowed: a group of this system, by name or number")]
    NoSuchGroup(String),
    #[error("--user: no user of this system has the number {0}: name a group too, as in {0}:100")]
    GroupMissing(String),
    #[error("--user: only root can start the proxy as another user, found {name:?} ({error})")]
    NotAllowed {
        name: String,
        error: rustix::io::Errno,
    },
    #[error("the rights of root cannot be given up: {0}")]
    Kept(rustix::io::Errno),
    #[error("users and groups cannot be looked up: {0}")]
    Unknown(nix::errno::Errno),
}

impl FromStr for Identity {
    type Err = Infallible;

    /// `USER[:GROUP]`
    fn from_str(text: &str) -> Result<Identity, Infallible> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(GroupName(group.to_owned()))),
            None => (text, None),
        };
        let user = user.to_owned();
        Ok(Identity { user, group })
    }
}

impl FromStr for GroupName {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<GroupName, Infallible> {
        Ok(GroupName(text.to_owned()))
    }
}

impl GroupName {
    pub fn find(&self) -> Result<Gid, PrivilegeError> {
        let GroupName(name) = self;
        if let Some(group) = Group::from_name(name).map_err(PrivilegeError::Unknown)? {
            return Ok(Gid::from_raw(group.gid.as_raw()));
        }
        let number = id(name).ok_or_else(|| PrivilegeError::NoSuchGroup(name.clone()))?;
        Ok(Gid::from_raw(number))
    }
}

impl Identity {
    fn find(&self) -> Result<(Uid, Gid), PrivilegeError> {
        let name = &self.user;
        let mut user = User::from_name(name).map_err(PrivilegeError::Unknown)?;
        let number = id(name);
        if let (None, Some(number)) = (&user, number) {
            user = User::from_uid(number.into()).map_err(PrivilegeError::Unknown)?;
        }
        let known = user.as_ref().map(|user| user.uid.as_raw());
        let uid = known.or(number);
        let uid = uid.ok_or_else(|| PrivilegeError::NoSuchUser(name.clone()))?;
        let gid = match (&self.group, user) {
            (Some(group), _) => group.find()?,
            (None, Some(user)) => Gid::from_raw(user.gid.as_raw()),
            (None, None) => return Err(PrivilegeError::GroupMissing(name.clone())),
        };
        Ok((Uid::from_raw(uid), gid))
    }

    /// Makes the process run as this user, in this one group, with no right beyond but that to bind
    /// ports below 1024. Whoever is that user already stays as they are.
    pub fn take_on(&self) -> Result<(), PrivilegeError> {
        let (uid, gid) = self.find()?;
        if (geteuid(), getegid()) == (uid, gid) {
            return Ok(());
        }
        let not_allowed = |error| PrivilegeError::NotAllowed {
            name: self.user.clone(),
            error,
        };
        set_thread_groups(&[gid]).map_err(not_allowed)?;
        set_thread_res_gid(gid, gid, gid).map_err(not_allowed)?;
        set_keep_capabilities(true).map_err(not_allowed)?;
        set_thread_res_uid(uid, uid, uid).map_err(not_allowed)?;
        set_keep_capabilities(false).map_err(not_allowed)?;
        keep_only(CapabilitySet::NET_BIND_SERVICE)
    }
}

/// The largest number stands for "as it is" in the calls that set users and groups.
fn id(text: &str) -> Option<u32> {
    text.parse().ok().filter(|number| *number != u32::MAX)
}

/// Gives up all capabilities but these, of which the process may have none.
pub fn keep_only(kept: CapabilitySet) -> Result<(), PrivilegeError> {
    let permitted = capabilities(None).map_err(PrivilegeError::Kept)?.permitted & kept;
    let sets = CapabilitySets {
        effective: permitted,
        permitted,
        // The ambient set is never larger, so it goes too.
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, sets).map_err(PrivilegeError::Kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(text: &str) -> Result<(u32, u32), PrivilegeError> {
        let Ok(identity) = text.parse::<Identity>();
        let (uid, gid) = identity.find()?;
        Ok((uid.as_raw(), gid.as_raw()))
    }

    #[test]
    fn users_and_groups_are_found_by_name_and_by_number() {
        for text in ["root", "0", "root:root", "0:0", "root:0"] {
            assert_eq!(find(text).expect("every system has root"), (0, 0), "{text}");
        }
        assert_eq!(find("4100000000:7").expect("numbers"), (4_100_000_000, 7));
    }

    #[test]
    fn who_is_nobody_is_refused_and_named() {
        for (text, right) in [
            ("", "--user: found \"\""),
            ("no such user", "no such user"),
            ("4294967295", "4294967295"),
            ("-1", "-1"),
            ("root:no such group", "no such group"),
            ("4100000000", "4100000000:100"),
        ] {
            let error = find(text).expect_err(text).to_string();
            assert!(error.contains(right), "{text:?}: {error}");
        }
    }
}
