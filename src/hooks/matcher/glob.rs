//! Lists of globs with exclusions, and the quick paths for those that nearly everybody writes: plain names and stars.
//!
//! A regular expression costs half a microsecond even to say no, which hundreds of policies would feel; so it is asked only about names that
//! begin and end as its pattern does.

use std::fmt;

use globset::{GlobBuilder, GlobMatcher};

/// Patterns that include and patterns that exclude.
#[derive(Debug, Default, Clone)]
pub struct Globs {
    include: Vec<Pattern>,
    exclude: Vec<Pattern>,
}

/// A pattern that means nothing, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadGlob {
    /// The syntax is wrong.
    #[error("`{0}` is not a glob: {1}")]
    Syntax(String, String),
    /// There is an exclamation mark and nothing after it.
    #[error("`!` excludes nothing; write what to exclude after it")]
    ExcludesNothing,
    /// It would take too much room or time.
    #[error("the glob is longer than {} characters", Globs::LONGEST)]
    TooLong,
}

#[derive(Debug, Clone)]
struct Pattern {
    text: Box<str>,
    form: Form,
}

#[derive(Debug, Clone)]
enum Form {
    Any,
    Literal,
    Prefix,
    Suffix,
    /// Nothing but stars, question marks and text.
    Wild,
    /// All the rest. The numbers are bytes: how much of the pattern's beginning, and of its end, is plain text.
    Glob(GlobMatcher, usize, usize),
}

/// What makes a pattern more than a name.
const META: [char; 7] = ['*', '?', '[', ']', '{', '}', '\\'];

/// Names that have nothing in common: a pattern that matches all of them names none.
const STRANGERS: [&str; 6] =
    ["a", "z9", "0-x", "kube-system", "q-q-q-q-q", "team-1234567890-abcdefghijklmnopqrstuvwxyz"];

impl Pattern {
    fn parse(text: &str) -> Result<Self, BadGlob> {
        if text.len() > Globs::LONGEST {
            return Err(BadGlob::TooLong);
        }
        let form = if text == "*" {
            Form::Any
        } else if !text.contains(META) {
            Form::Literal
        } else if text.strip_suffix('*').is_some_and(|rest| !rest.contains(META)) {
            Form::Prefix
        } else if text.strip_prefix('*').is_some_and(|rest| !rest.contains(META)) {
            Form::Suffix
        } else if !text.contains(&META[2..]) {
            Form::Wild
        } else {
            let glob = GlobBuilder::new(text).literal_separator(false).backslash_escape(true).build();
            let glob = glob.map_err(|error| BadGlob::Syntax(text.to_owned(), error.kind().to_string()))?;
            // Behind a backslash, text is not what it seems.
            let plain = |length: Option<usize>| length.filter(|_| !text.contains('\\')).unwrap_or_default();
            let (begin, end) = (text.find(META), text.rfind(META).map(|last| text.len() - last - 1));
            Form::Glob(glob.compile_matcher(), plain(begin), plain(end))
        };
        Ok(Self { text: text.into(), form })
    }

    fn matches(&self, name: &str) -> bool {
        let text = &*self.text;
        match &self.form {
            Form::Any => true,
            Form::Literal => name == text,
            Form::Prefix => name.as_bytes().starts_with(&text.as_bytes()[..text.len() - 1]),
            Form::Suffix => name.as_bytes().ends_with(&text.as_bytes()[1..]),
            Form::Wild => wild(text, name),
            Form::Glob(glob, begin, end) => {
                let (text, bytes) = (text.as_bytes(), name.as_bytes());
                bytes.starts_with(&text[..*begin]) && bytes.ends_with(&text[text.len() - end..]) && glob.is_match(name)
            }
        }
    }
}

/// Whether a pattern of `*`, `?` and text matches. When text does not fit, only the last star can help: it takes a character more.
fn wild(pattern: &str, name: &str) -> bool {
    let (pattern, bytes) = (pattern.as_bytes(), name.as_bytes());
    let (mut here, mut at) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    let character = |at: usize| name[at..].chars().next().map_or(1, char::len_utf8);
    while at < bytes.len() {
        match pattern.get(here) {
            Some(b'*') => {
                here += 1;
                star = Some((here, at));
            }
            Some(b'?') => {
                here += 1;
                at += character(at);
            }
            Some(letter) if *letter == bytes[at] => {
                here += 1;
                at += 1;
            }
            _ => {
                let Some((after, taken)) = star else { return false };
                let taken = taken + character(taken);
                star = Some((after, taken));
                (here, at) = (after, taken);
            }
        }
    }
    pattern[here..].iter().all(|letter| *letter == b'*')
}

impl Globs {
    /// Of one pattern, in bytes.
    pub const LONGEST: usize = 1024;

    /// This list and one pattern more: a glob, or `!` and a glob.
    ///
    /// # Errors
    /// See [`BadGlob`].
    pub fn with(mut self, text: &str) -> Result<Self, BadGlob> {
        match text.strip_prefix('!') {
            Some("") => return Err(BadGlob::ExcludesNothing),
            Some(excluded) => self.exclude.push(Pattern::parse(excluded)?),
            None => self.include.push(Pattern::parse(text)?),
        }
        Ok(self)
    }

    /// Whether there are no patterns at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.include.is_empty() && self.exclude.is_empty()
    }

    /// Whether some pattern includes `name`, or there is none that includes; and no pattern excludes it.
    #[must_use]
    pub fn hold(&self, name: &str) -> bool {
        (self.include.is_empty() || self.include.iter().any(|pattern| pattern.matches(name)))
            && !self.exclude.iter().any(|pattern| pattern.matches(name))
    }

    /// The same in words: `what` is the list's name, `missing` what to say if there is no name to compare.
    pub(super) fn check(&self, what: &str, name: Option<&str>, missing: &str) -> Result<(), String> {
        let Some(name) = name else {
            return if self.is_empty() { Ok(()) } else { Err(format!("{what}: {missing}")) };
        };
        if let Some(pattern) = self.exclude.iter().find(|pattern| pattern.matches(name)) {
            return Err(format!("{what}: `{name}` is excluded by !{pattern}"));
        }
        if self.hold(name) {
            return Ok(());
        }
        let all: Vec<&str> = self.include.iter().map(|pattern| &*pattern.text).collect();
        Err(format!("{what}: `{name}` is none of {}", all.join(", ")))
    }

    /// Whether `name` itself is listed, as a plain name.
    pub(super) fn list(&self, name: &str) -> bool {
        self.include.iter().any(|pattern| matches!(pattern.form, Form::Literal) && &*pattern.text == name)
    }

    /// Whether something is included, and nothing by a pattern that any name would match.
    pub(super) fn name_something(&self) -> bool {
        let all = |pattern: &Pattern| STRANGERS.iter().all(|name| pattern.matches(name));
        !self.include.is_empty() && !self.include.iter().any(all)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `*` and `?` by trying everything.
    fn naive(pattern: &[char], name: &[char]) -> bool {
        match (pattern.split_first(), name.split_first()) {
            (None, None) => true,
            (Some(('*', rest)), _) => (0..=name.len()).any(|taken| naive(rest, &name[taken..])),
            (Some(('?', rest)), Some((_, after))) => naive(rest, after),
            (Some((letter, rest)), Some((same, after))) => letter == same && naive(rest, after),
            (None, Some(_)) | (Some(_), None) => false,
        }
    }

    fn naive_list(patterns: &[String], name: &str) -> bool {
        let name: Vec<char> = name.chars().collect();
        let fits = |pattern: &str| naive(&pattern.chars().collect::<Vec<_>>(), &name);
        let (excluding, including): (Vec<_>, Vec<_>) = patterns.iter().partition(|pattern| pattern.starts_with('!'));
        !excluding.iter().any(|pattern| fits(&pattern[1..]))
            && (including.is_empty() || including.iter().any(|pattern| fits(pattern)))
    }

    fn globs(patterns: &[String]) -> Globs {
        patterns.iter().try_fold(Globs::default(), |globs, pattern| globs.with(pattern)).unwrap()
    }

    proptest! {
        #[test]
        fn a_list_holds_as_its_patterns_say_one_by_one(
            patterns in proptest::collection::vec("!?[abä*?]{1,5}", 0..4),
            name in "[abä]{0,6}",
        ) {
            prop_assert_eq!(globs(&patterns).hold(&name), naive_list(&patterns, &name));
        }

        #[test]
        fn a_star_matches_slashes_too(prefix in "[ab/]{1,4}", rest in "[ab/]{0,6}") {
            for (pattern, name) in [
                (format!("{prefix}*"), format!("{prefix}{rest}")),
                (format!("*{prefix}"), format!("{rest}{prefix}")),
                (format!("[ab/]*{prefix}"), format!("a{rest}{prefix}")),
            ] {
                prop_assert!(globs(std::slice::from_ref(&pattern)).hold(&name), "{} {}", pattern, name);
            }
        }
    }

    proptest! {
        /// What a class or an alternative adds does not change how the rest of the pattern is read.
        #[test]
        fn quick_answers_are_those_of_the_whole_glob(
            begin in "[ab?*]{0,3}",
            end in "[ab?*]{0,3}",
            name in "[abc]{0,8}",
        ) {
            let class = globs(&[format!("{begin}[c]{end}")]).hold(&name);
            let alternatives = globs(&[format!("{begin}{{c,cc}}{end}")]).hold(&name);
            let one = naive_list(&[format!("{begin}c{end}")], &name);
            let two = naive_list(&[format!("{begin}cc{end}")], &name);
            prop_assert_eq!(class, one);
            prop_assert_eq!(alternatives, one || two);
        }
    }

    #[test]
    fn what_is_behind_a_backslash_is_meant_as_it_is() {
        let list = globs(&["a\\*b".to_owned()]);
        assert!(list.hold("a*b") && !list.hold("axb"));
    }

    #[test]
    fn alternatives_and_classes_are_globs_too() {
        let list = globs(&["{web,api}-[0-9]".to_owned(), "!web-0".to_owned()]);
        assert!(list.hold("web-1") && list.hold("api-0"));
        assert!(!list.hold("web-0") && !list.hold("web-x") && !list.hold("db-1"));
    }

    #[test]
    fn a_pattern_that_means_nothing_is_refused() {
        let refused = |text: &str| Globs::default().with(text).unwrap_err().to_string();
        assert!(refused("team-[a").starts_with("`team-[a` is not a glob: "), "{}", refused("team-[a"));
        assert!(refused("{a").contains("`{a` is not a glob"));
        assert!(refused("!").contains("excludes nothing"));
        assert!(refused(&"a".repeat(1025)).contains("longer than 1024"));
    }
}
