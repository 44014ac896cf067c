//! What is started in an upgrade: the installed binary, as this process was started.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A program and its arguments.
#[derive(Debug, Clone)]
pub struct Program {
    pub(super) path: PathBuf,
    pub(super) arguments: Vec<OsString>,
}

impl Program {
    /// What this process is. To be called at its start, before the binary is replaced.
    ///
    /// The path is the one that it was started by, with its links: an installation that switches a link is followed.
    #[must_use]
    pub fn this() -> Self {
        let mut arguments = std::env::args_os();
        let name = arguments.next().map(PathBuf::from);
        let image = std::env::current_exe().unwrap_or_else(|_| "/proc/self/exe".into());
        let path = name.and_then(|name| started_by(&name, &image)).unwrap_or(image);
        Self { path, arguments: arguments.collect() }
    }
}

/// The absolute path that `name` stood for, if it leads to `image`.
fn started_by(name: &Path, image: &Path) -> Option<PathBuf> {
    let candidates = if name.as_os_str().as_bytes().contains(&b'/') {
        vec![std::path::absolute(name).ok()?]
    } else {
        std::env::split_paths(&std::env::var_os("PATH")?).map(|directory| directory.join(name)).collect()
    };
    candidates.into_iter().find(|path| path.canonicalize().is_ok_and(|real| real == image))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_leads_to_the_binary_is_what_is_started_again() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        let (image, link, other) = (root.join("crihook-1"), root.join("crihook"), root.join("other"));
        std::fs::write(&image, "").unwrap();
        std::fs::write(&other, "").unwrap();
        std::os::unix::fs::symlink(&image, &link).unwrap();
        assert_eq!(started_by(&link, &image), Some(link.clone()));
        assert_eq!(started_by(&image, &image), Some(image.clone()));
        assert_eq!(started_by(&other, &image), None, "a name that was made up");
        assert_eq!(started_by(Path::new("no-such-program-anywhere"), &image), None);
    }
}
