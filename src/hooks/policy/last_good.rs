//! The last good policies, kept where a restart or a reboot finds them.
//!
//! ```text
//! <state directory>/policies/   0700
//!     <hash>/0000-drain.yaml    0600, the documents in their order
//!     current -> <hash>
//! ```
//!
//! A set is written beside the one that is there, reaches the disk, and becomes `current` by one rename: whenever the power fails, `current` is
//! one whole set.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use super::diagnostic::Diagnostic;
use super::load::{Loaded, load};
use crate::hooks::Defaults;

/// Where they are kept.
#[derive(Debug, Clone)]
pub struct LastGood(PathBuf);

const CURRENT: &str = "current";
/// Before a set's name while it is not complete.
const UNFINISHED: &str = ".new-";

impl LastGood {
    /// Below this state directory.
    pub fn below(state: &Path) -> Self {
        Self(state.join("policies"))
    }

    /// What was kept last, if anything was.
    ///
    /// # Errors
    /// What is wrong with it: it was damaged, or what it names is gone.
    pub fn load(&self, defaults: &Defaults) -> Result<Option<Loaded>, Vec<Diagnostic>> {
        let current = self.0.join(CURRENT);
        let Ok(name) = current.read_link() else { return Ok(None) };
        let loaded = load(&current, defaults)?;
        if name.as_os_str() != loaded.set.hash.as_str() {
            return Err(vec![Diagnostic::of_file(current, "is not what was written here: a damaged copy is not used")]);
        }
        Ok(Some(loaded))
    }

    /// Keeps a set in the place of the last one.
    ///
    /// # Errors
    /// What the system says; the last one is still there then.
    pub fn keep(&self, good: &Loaded) -> io::Result<()> {
        let (hash, current) = (good.set.hash.as_str(), self.0.join(CURRENT));
        DirBuilder::new().recursive(true).mode(0o700).create(&self.0)?;
        if current.read_link().is_ok_and(|name| name.as_os_str() == hash) && self.holds(good) {
            return Ok(());
        }
        let unfinished = self.0.join(format!("{UNFINISHED}{}", std::process::id()));
        remove(&unfinished)?;
        DirBuilder::new().mode(0o700).create(&unfinished)?;
        for (number, document) in good.documents.iter().enumerate() {
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(unfinished.join(name(number, &document.file)))?;
            file.write_all(document.text.as_bytes())?;
            file.sync_all()?;
        }
        File::open(&unfinished)?.sync_all()?;
        remove(&self.0.join(hash))?;
        fs::rename(&unfinished, self.0.join(hash))?;
        symlink(hash, &unfinished)?;
        fs::rename(&unfinished, &current)?;
        File::open(&self.0)?.sync_all()?;
        self.sweep(hash)
    }

    /// Whether the files are there as they should be.
    fn holds(&self, good: &Loaded) -> bool {
        let directory = self.0.join(CURRENT);
        let same = |(number, document): (usize, &super::Text)| {
            fs::read(directory.join(name(number, &document.file))).is_ok_and(|text| text == document.text.as_bytes())
        };
        let count = directory.read_dir().map_or(0, Iterator::count);
        count == good.documents.len() && good.documents.iter().enumerate().all(same)
    }

    /// Removes what is not current.
    fn sweep(&self, hash: &str) -> io::Result<()> {
        for entry in self.0.read_dir()? {
            let name = entry?.file_name();
            let Some(text) = name.to_str() else { continue };
            let old = text.len() == 16 && text.chars().all(|c| c.is_ascii_hexdigit()) && text != hash;
            if old || text.starts_with(UNFINISHED) {
                remove(&self.0.join(&name))?;
            }
        }
        Ok(())
    }
}

/// Of the copy: it sorts as the files were read.
fn name(number: usize, file: &Path) -> String {
    let name = file.file_stem().map_or_else(String::new, |name| name.to_string_lossy().chars().take(100).collect());
    format!("{number:04}-{name}.yaml")
}

/// Removes a directory or a link, if there is one.
fn remove(path: &Path) -> io::Result<()> {
    let removed = match path.symlink_metadata() {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    removed.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::hooks::policy::parse;

    fn loaded(name: &str) -> Loaded {
        let text = format!(
            "apiVersion: crihook.dev/v1\nkind: HookPolicy\nmetadata: {{name: {name}}}\nspec: {{hooks: [{{name: x, on: PreStop, sleep: {{seconds: 1}}}}]}}\n"
        );
        parse(&text, Path::new("/etc/hooks/web.yaml"), &Defaults::default()).unwrap()
    }

    #[test]
    fn the_last_set_that_was_kept_is_found_and_nobody_else_can_read_it() {
        let state = tempfile::tempdir().unwrap();
        let kept = LastGood::below(&state.path().join("state"));
        let defaults = Defaults::default();
        assert!(kept.load(&defaults).unwrap().is_none());
        for name in ["one", "two", "two"] {
            kept.keep(&loaded(name)).unwrap();
            let found = kept.load(&defaults).unwrap().unwrap();
            assert_eq!((&*found.set.policies[0].name, &found.set.hash), (name, &loaded(name).set.hash));
        }
        let file = kept.0.join("current/0000-web.yaml");
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(kept.0.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(kept.0.read_dir().unwrap().count(), 2, "the older set is gone");
    }

    #[test]
    fn a_copy_that_was_damaged_is_not_used_and_is_written_again() {
        let state = tempfile::tempdir().unwrap();
        let kept = LastGood::below(state.path());
        kept.keep(&loaded("one")).unwrap();
        fs::write(kept.0.join("current/0000-web.yaml"), "# nothing\n").unwrap();
        assert!(kept.load(&Defaults::default()).unwrap_err()[0].message.contains("damaged"));
        kept.keep(&loaded("one")).unwrap();
        assert!(kept.load(&Defaults::default()).unwrap().is_some());
    }

    #[test]
    fn no_policies_are_a_set_too() {
        let state = tempfile::tempdir().unwrap();
        let kept = LastGood::below(state.path());
        kept.keep(&loaded("one")).unwrap();
        kept.keep(&parse("", Path::new("x.yaml"), &Defaults::default()).unwrap()).unwrap();
        assert!(kept.load(&Defaults::default()).unwrap().unwrap().set.policies.is_empty());
    }
}
