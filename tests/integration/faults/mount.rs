//! File systems that a test has for itself and does bad things to. They are gone when it ends, however it ends.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// One that is mounted. Needs root.
pub struct Mount {
    at: PathBuf,
}

/// One that hangs.
pub struct Frozen<'a>(&'a Mount);

impl Mount {
    /// In memory, of this size, such as `1m`.
    pub fn tmpfs(at: &Path, size: &str) -> Self {
        Self::new(at, &["-t", "tmpfs", "-o", &format!("size={size},mode=0700"), "tmpfs"])
    }

    /// On a disk, which is the file `image`. Needs a loop device.
    pub fn ext4(at: &Path, image: &Path) -> Self {
        let file = fs::File::create(image).expect("a file for a disk");
        file.set_len(32 << 20).expect("room for a disk");
        run(Command::new("mkfs.ext4").arg("-q").arg(image));
        let image = image.to_str().expect("a path in UTF-8");
        Self::new(at, &["-t", "ext4", "-o", "loop,errors=remount-ro", image])
    }

    fn new(at: &Path, what: &[&str]) -> Self {
        fs::create_dir_all(at).expect("a directory to mount on");
        run(Command::new("mount").args(what).arg(at));
        Self { at: at.to_owned() }
    }

    /// With `ro` or `rw`, while nobody has a file open there for writing.
    pub fn remount(&self, how: &str) {
        run(Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(&self.at));
    }

    /// Turns a disk read-only under those who write to it, as the kernel does when it finds an error. There is no way back but to mount it anew.
    pub fn fail(&self) {
        let output = Command::new("findmnt").args(["-n", "-o", "SOURCE"]).arg(&self.at).output().expect("findmnt");
        let device = String::from_utf8(output.stdout).expect("text");
        let device = device.trim().strip_prefix("/dev/").expect("a device").to_owned();
        assert!(device.starts_with("loop"), "{device} is not a disk of this test");
        fs::write(format!("/sys/fs/ext4/{device}/trigger_fs_error"), "a test").expect("an error");
    }

    /// Writing there takes until this is dropped. Drop it before whoever writes: not even SIGKILL ends a process that waits for such a disk.
    pub fn freeze(&self) -> Frozen<'_> {
        run(Command::new("fsfreeze").arg("-f").arg(&self.at));
        Frozen(self)
    }

    /// Fills it to the last byte; what was put there is a file of this name.
    pub fn fill(&self, name: &str) -> PathBuf {
        let path = self.at.join(name);
        let mut file = fs::File::create(&path).expect("a file");
        // Less and less, so that nothing is left over.
        for piece in [1 << 16, 1 << 12, 1] {
            loop {
                match file.write(&vec![b'x'; piece]) {
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => panic!("{}: {error}", path.display()),
                }
            }
        }
        path
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Whoever has files open there keeps them.
        let ended = Command::new("umount").arg("-l").arg(&self.at).status();
        if !std::thread::panicking() {
            assert!(ended.is_ok_and(|status| status.success()), "{} is still mounted", self.at.display());
        }
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        let thawed = Command::new("fsfreeze").arg("-u").arg(&self.0.at).status();
        if !std::thread::panicking() {
            assert!(thawed.is_ok_and(|status| status.success()), "{} is still frozen", self.0.at.display());
        }
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} (this test needs root): {said}");
}
