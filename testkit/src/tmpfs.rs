//! A small file system in memory in the place of a folder: disks that are full or read-only. Mounting
//! takes root.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Mounted until dropped.
#[derive(Debug)]
pub struct Tmpfs(PathBuf);

impl Tmpfs {
    /// Mounts one of so many KiB over `folder` and puts the folder's files into it; `None` where that
    /// is not allowed.
    pub fn over(folder: &Path, kib: u32) -> Option<Tmpfs> {
        let aside = folder.with_extension("below");
        fs::rename(folder, &aside).expect("a temporary folder");
        fs::create_dir(folder).expect("a temporary folder");
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", &format!("size={kib}k"), "tmpfs"])
            .arg(folder);
        let mounted = mount.output().is_ok_and(|output| output.status.success());
        for entry in fs::read_dir(&aside).expect("a temporary folder").flatten() {
            let to = folder.join(entry.file_name());
            fs::copy(entry.path(), to).expect("there is room for what was there");
        }
        mounted.then(|| Tmpfs(folder.to_owned()))
    }

    /// Writes until nothing more goes in.
    pub fn fill(&self) {
        let mut filler = fs::File::create(self.filler()).expect("an inode is free");
        while std::io::Write::write_all(&mut filler, &[0; 4096]).is_ok() {}
    }

    pub fn empty(&self) {
        fs::remove_file(self.filler()).expect("it was filled");
    }

    /// Makes it read-only, or writable again.
    pub fn set_read_only(&self, is_read_only: bool) {
        let option = if is_read_only {
            "remount,ro"
        } else {
            "remount,rw"
        };
        let status = Command::new("mount")
            .args(["-o", option])
            .arg(&self.0)
            .status();
        assert!(
            status.is_ok_and(|status| status.success()),
            "mount -o {option}"
        );
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily, since the programs that use it may end after it.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}
