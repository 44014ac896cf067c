//! From files to a [`PolicySet`]: all of them are read, and all that is wrong in them is told at once.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::diagnostic::{Diagnostic, Place, Source};
use super::validate::{self, Report};
use super::{API_VERSION, KIND, Policy, PolicySet, raw};
use crate::hooks::Defaults;

/// Of one file, in bytes.
pub const LARGEST: usize = 1 << 20;
/// In a directory.
const MOST_FILES: usize = 1000;
/// Of all files together, in bytes.
const LARGEST_SET: usize = 16 << 20;
/// Mistakes that are told; the rest is counted.
const MOST_MISTAKES: usize = 100;

/// Policies that are in order.
#[derive(Debug, Default)]
pub struct Loaded {
    /// They.
    pub set: PolicySet,
    /// What is worth a thought, though nothing is refused for it.
    pub warnings: Vec<Diagnostic>,
    /// What they were read from, in order.
    pub documents: Vec<Text>,
}

/// A file's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// Where it stands.
    pub file: PathBuf,
    /// All of it.
    pub text: String,
}

/// Reads the policies of a directory: `*.yaml`, in the order of their names; hidden files and all others are left alone. Where there is no
/// directory there are no policies.
///
/// # Errors
/// Everything that is wrong in any of them.
pub fn load(directory: &Path, defaults: &Defaults) -> Result<Loaded, Vec<Diagnostic>> {
    let mut reading = Reading::new(defaults);
    reading.directory(directory);
    reading.finish()
}

/// The same for files and directories in the given order. A file that is named is read whatever it is called. All must be there.
///
/// # Errors
/// Everything that is wrong in any of them.
pub fn load_paths(paths: &[PathBuf], defaults: &Defaults) -> Result<Loaded, Vec<Diagnostic>> {
    let mut reading = Reading::new(defaults);
    for path in paths {
        if path.is_dir() { reading.directory(path) } else { reading.path(path.clone()) }
    }
    reading.finish()
}

/// Reads one file's text; `file` is for the mistakes.
///
/// # Errors
/// Everything that is wrong in it.
pub fn parse(text: &str, file: &Path, defaults: &Defaults) -> Result<Loaded, Vec<Diagnostic>> {
    let mut reading = Reading::new(defaults);
    reading.file(file.to_owned(), text.to_owned());
    reading.finish()
}

/// Reads a file that may be anything.
fn read(path: &Path) -> Result<String, Diagnostic> {
    let failed = |error: io::Error| Diagnostic::of_file(path, format!("cannot be read: {error}"));
    // A pipe would be waited for, a device has no end.
    if !path.metadata().map_err(failed)?.is_file() {
        return Err(Diagnostic::of_file(path, "is not a file"));
    }
    let mut bytes = Vec::new();
    let limit = u64::try_from(LARGEST).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes)).map_err(failed)?;
    if bytes.len() > LARGEST {
        let help = "split it; files are read in the order of their names";
        return Err(Diagnostic::of_file(path, "is larger than 1 MiB, the most that is read").help(help));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = String::from_utf8_lossy(&error.as_bytes()[..error.utf8_error().valid_up_to()]).into_owned();
        let (line, column) =
            (good.matches('\n').count() + 1, good.rsplit('\n').next().map_or(0, |it| it.chars().count()) + 1);
        let mut mistake = Diagnostic::of_file(path, "is not UTF-8 from here on").help("save the file as UTF-8");
        (mistake.line, mistake.column) = (line as u64, column as u64);
        mistake
    })
}

/// What has been read so far.
struct Reading<'a> {
    defaults: &'a Defaults,
    policies: Vec<Arc<Policy>>,
    /// Where each name was first used.
    names: HashMap<Arc<str>, String>,
    mistakes: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
    documents: Vec<Text>,
}

impl<'a> Reading<'a> {
    fn new(defaults: &'a Defaults) -> Self {
        let names = HashMap::new();
        Self { defaults, policies: vec![], names, mistakes: vec![], warnings: vec![], documents: vec![] }
    }

    fn directory(&mut self, directory: &Path) {
        for file in self.list(directory) {
            self.path(file);
        }
    }

    fn path(&mut self, file: PathBuf) {
        match read(&file) {
            Ok(text) => self.file(file, text),
            Err(mistake) => self.mistakes.push(mistake),
        }
    }

    /// A directory's files in order.
    fn list(&mut self, directory: &Path) -> Vec<PathBuf> {
        let entries = match directory.read_dir() {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return vec![],
            Err(error) => {
                self.mistakes.push(Diagnostic::of_file(directory, format!("cannot be read: {error}")));
                return vec![];
            }
        };
        let mut files = Vec::new();
        for entry in entries {
            let path = match entry {
                Ok(entry) => entry.path(),
                Err(error) => {
                    self.mistakes.push(Diagnostic::of_file(directory, format!("cannot be read: {error}")));
                    continue;
                }
            };
            let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
            match path.extension().and_then(OsStr::to_str) {
                Some("yaml") if !hidden && !path.is_dir() => files.push(path),
                Some("yml") if !hidden => {
                    let mut warning =
                        Diagnostic::of_file(path, "is not read").help("policies are in files called *.yaml");
                    warning.warning = true;
                    self.warnings.push(warning);
                }
                _ => {}
            }
        }
        files.sort();
        if files.len() > MOST_FILES {
            let message = format!("has {} files, more than the {MOST_FILES} that are read", files.len());
            self.mistakes.push(Diagnostic::of_file(directory, message));
            files.truncate(MOST_FILES);
        }
        files
    }

    fn file(&mut self, file: PathBuf, text: String) {
        if self.documents.iter().map(|it| it.text.len()).sum::<usize>() + text.len() > LARGEST_SET {
            self.mistakes.push(Diagnostic::of_file(file, "is too much: all policies together may have 16 MiB"));
            return;
        }
        let content = text.strip_prefix('\u{feff}').unwrap_or(&text);
        for (before, document) in documents(content) {
            self.document(&Source::new(&file, document, before), document, &file);
        }
        self.documents.push(Text { file, text });
    }

    fn document(&mut self, source: &Source<'_>, text: &str, file: &Path) {
        let mut report = Report::new(source);
        let policy = read_document(&mut report, text, self.defaults, file);
        if let Some((policy, name)) = policy {
            let here = format!("{}:{}", file.display(), source.line(name));
            if let Some(there) = self.names.get(&policy.name) {
                let message = format!("there is a policy `{}` already, in {there}", policy.name);
                report.wrong(name, message, "give each policy a name of its own");
            } else {
                self.names.insert(Arc::clone(&policy.name), here);
                self.policies.push(Arc::new(policy));
            }
        }
        let (mistakes, warnings) = report.into_parts();
        self.mistakes.extend(mistakes);
        self.warnings.extend(warnings);
    }

    fn finish(mut self) -> Result<Loaded, Vec<Diagnostic>> {
        if self.mistakes.is_empty() {
            let set = PolicySet { policies: self.policies, hash: hash(&self.documents) };
            return Ok(Loaded { set, warnings: self.warnings, documents: self.documents });
        }
        let more = self.mistakes.len().saturating_sub(MOST_MISTAKES);
        self.mistakes.truncate(MOST_MISTAKES);
        if let (true, Some(last)) = (more > 0, self.mistakes.last()) {
            self.mistakes.push(Diagnostic::of_file(&last.file, format!("and {more} mistakes more")));
        }
        Err(self.mistakes)
    }
}

/// One document: a policy and where its name stands, or `None` and something in the report.
fn read_document(report: &mut Report<'_>, text: &str, defaults: &Defaults, file: &Path) -> Option<(Policy, Place)> {
    // A document of another kind has other keys; to call those unknown would be beside the point.
    if let Ok(header) = serde_saphyr::from_str_with_options::<raw::Header>(text, options()) {
        let mut right = true;
        for (key, given, expected) in [("apiVersion", header.api_version, API_VERSION), ("kind", header.kind, KIND)] {
            let help = format!("write `{key}: {expected}`; a config file is checked with --config");
            match given {
                Some(given) if *given == expected => continue,
                Some(given) => report.wrong(given.place(), format!("the {key} is `{}`", *given), help),
                None => report.wrong(Place::START, format!("there is no {key}"), help),
            }
            right = false;
        }
        if !right {
            return None;
        }
    }
    match serde_saphyr::from_str_with_options::<raw::Document>(text, options()) {
        Ok(document) => validate::policy(report, document, defaults, file),
        Err(error) => {
            let at = error.location().map_or(Place::START, Into::into);
            report.mistake(at, &super::diagnostic::plain(&error));
            None
        }
    }
}

/// Bounds of one document: a policy is some dozens of lines; what needs more is a mistake or an attack.
fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: 50_000,
            max_aliases: 1_000,
            max_anchors: 1_000,
            max_nodes: 20_000,
            max_depth: 32,
            max_recorded_anchor_events: 20_000,
            max_recorded_anchor_bytes: 1 << 20,
            max_total_scalar_bytes: 2 << 20,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 20_000,
            max_alias_expansions_per_anchor: 1_000,
        },
        emit_comments: false,
    }
}

/// Takes a file apart: its documents that say something, each with the number of lines before it. YAML lets no value hold a line
/// that begins with `---` or `...`, so this needs no parser, and one broken document does not hide the mistakes of the next.
fn documents(text: &str) -> Vec<(u64, &str)> {
    let is_marker = |line: &str, marker: &str| {
        line.strip_prefix(marker).is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace))
    };
    let says_nothing = |line: &str| {
        let line = line.trim();
        let rest = line.strip_prefix("---").or_else(|| line.strip_prefix("...")).unwrap_or(line).trim_start();
        rest.is_empty() || rest.starts_with('#')
    };
    let (mut found, mut start, mut first, mut at) = (Vec::new(), 0, 0, 0);
    // Nothing but directives (`%YAML 1.2`), which belong to the document that follows.
    let (mut directives, mut content) = (false, false);
    for (number, line) in (0_u64..).zip(text.split_inclusive('\n')) {
        let begins = is_marker(line, "---") && (!directives || content);
        if begins || is_marker(line, "...") {
            found.push((first, &text[start..at]));
            (start, first, directives, content) = (at, number, false, false);
        }
        if is_marker(line, "...") {
            (start, first) = (at + line.len(), number + 1);
        } else if line.starts_with('%') {
            directives = true;
        } else {
            content |= !says_nothing(line) || is_marker(line, "---");
        }
        at += line.len();
    }
    found.push((first, &text[start..]));
    found.retain(|(_, document)| !document.lines().all(says_nothing));
    found
}

/// FNV-1a over the texts: short, and the same on every machine and in every version.
fn hash(documents: &[Text]) -> String {
    let bytes = documents.iter().flat_map(|document| document.text.bytes().chain([0]));
    let hash =
        bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_taken_apart_at_its_markers() {
        let text = "# nothing\n---\na: 1\n---\n# nothing\n--- # why\nb: |\n  ---\n  x\n...\n%YAML 1.2\n---\nc: 1\n";
        let found = documents(text);
        assert_eq!(found[0], (1, "---\na: 1\n"));
        assert_eq!(found[1], (5, "--- # why\nb: |\n  ---\n  x\n"));
        assert_eq!(found[2], (10, "%YAML 1.2\n---\nc: 1\n"));
        assert_eq!(found.len(), 3);
        assert!(documents("").is_empty() && documents("---\n").is_empty());
    }

    #[test]
    fn the_same_text_has_the_same_hash() {
        let of = |texts: &[&str]| {
            let file = PathBuf::new();
            hash(&texts.iter().map(|&text| Text { file: file.clone(), text: text.to_owned() }).collect::<Vec<_>>())
        };
        assert_eq!(of(&["a", "b"]), of(&["a", "b"]));
        assert_ne!(of(&["a", "b"]), of(&["ab"]));
        assert_eq!(of(&[]), "cbf29ce484222325");
    }
}
