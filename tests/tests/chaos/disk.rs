//! Small disks of the agents, which can be filled: memory file systems in a mount namespace of this thread, that
//! its children share and that ends with them. Where the machine allows no mounts of our own (that takes root),
//! agents work in plain folders, which can not be filled.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Far more than the fake trainer writes.
const SIZE: &str = "size=16m";

pub struct Disk {
    folder: PathBuf,
    mounted: bool,
}

impl Disk {
    /// One at each of `folders`, for this thread and what it starts from now on.
    pub fn each(folders: &[PathBuf]) -> Vec<Disk> {
        // SAFETY: one system call, which changes the view of this thread alone.
        let ours = unsafe { nix::libc::unshare(nix::libc::CLONE_NEWNS) } == 0;
        let ours = ours && mount(&["--make-rprivate", "/"]);
        let one = |folder: &PathBuf| {
            std::fs::create_dir_all(folder).expect("the test's folder is writable");
            let at = folder.to_str().expect("a temporary folder has a plain name");
            Disk { folder: folder.clone(), mounted: ours && mount(&["-t", "tmpfs", "-o", SIZE, "disk", at]) }
        };
        folders.iter().map(one).collect()
    }

    fn filler(&self) -> PathBuf {
        self.folder.join("filler")
    }

    /// Takes every byte that is left; false where that can not be done.
    pub fn fill(&self) -> bool {
        if !self.mounted {
            return false;
        }
        let mut file =
            std::fs::File::options().create(true).append(true).open(self.filler()).expect("a file");
        // Down to single bytes, so that not the smallest file finds room.
        for piece in [1 << 16, 1 << 10, 1] {
            while file.write_all(&vec![0; piece]).is_ok() {}
        }
        true
    }

    pub fn empty(&self) {
        // Most of the time there is none.
        let _ = std::fs::remove_file(self.filler());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.mounted {
            // Busy while a process still dies there; the folder of the test is removed without it.
            run("umount", &["--lazy".as_ref(), self.folder.as_os_str()]);
        }
    }
}

fn mount(args: &[&str]) -> bool {
    run("mount", &args.iter().map(AsRef::as_ref).collect::<Vec<_>>())
}

fn run(program: &str, args: &[&std::ffi::OsStr]) -> bool {
    let mut command = Command::new(program);
    let command = command.args(args).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

#[test]
fn a_full_disk_takes_nothing_and_an_emptied_one_does() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = folder.path().join("disk");
    let disks = Disk::each(std::slice::from_ref(&at));
    let write = |at: &Path| std::fs::write(at.join("file"), [7; 4096]);
    if disks[0].fill() {
        let error = write(&at).expect_err("no room");
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
        disks[0].empty();
    }
    write(&at).expect("there is room again");
}
