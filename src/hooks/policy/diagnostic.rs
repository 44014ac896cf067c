//! A mistake in a document, as people want to read it: where, what, what would be right, and the line with a caret under it.
//!
//! ```text
//! drain.yaml:12:14: a timeout of zero ends before it begins
//!    12 |     timeout: 0s
//!       |              ^^
//!       = write how long an attempt may take, as 10s
//! ```
//!
//! What a header, the environment or a URL holds is never in one: not in the words, not in the line ([`secrets`](super::secrets)).

use std::cell::OnceCell;
use std::fmt;
use std::path::PathBuf;

use super::secrets::Secrets;

/// Something to be said about a place in a file.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Diagnostic {
    /// Which file.
    pub file: PathBuf,
    /// Counted from 1.
    pub line: u64,
    /// In characters, counted from 1.
    pub column: u64,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// The line, if there is text to quote.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quote: Option<Box<Quote>>,
    /// It is a matter of taste or of care, and nothing is refused for it.
    pub warning: bool,
}

/// A line with its secrets masked.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Quote {
    /// The line, or a piece of a long one.
    pub text: String,
    /// Characters before the caret.
    pub indent: usize,
    /// Characters to underline; at least 1.
    pub width: usize,
}

/// A place in a document's text. Lines and columns count from 1, columns and width in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Within the document.
    pub line: u64,
    /// In characters.
    pub column: u64,
    /// How many characters are meant; 0 if that is not known.
    pub width: u64,
}

impl Place {
    /// Where a text begins.
    pub const START: Self = Self { line: 1, column: 1, width: 0 };
}

impl From<serde_saphyr::Location> for Place {
    fn from(at: serde_saphyr::Location) -> Self {
        Self { line: at.line().max(1), column: at.column().max(1), width: at.span().len() }
    }
}

impl Diagnostic {
    /// About a file as a whole.
    pub fn of_file(file: impl Into<PathBuf>, message: impl Into<String>) -> Self {
        let (file, message) = (file.into(), message.into());
        Self { file, line: 1, column: 1, message, help: None, quote: None, warning: false }
    }

    /// About a place in a text that is no policy and has no secrets. Line and column count from 1.
    #[must_use]
    pub fn of_text(file: PathBuf, text: &str, line: u64, column: u64, message: &str) -> Self {
        let source = Source { secrets: Secrets::default().into(), ..Source::new(file, text, 0) };
        source.mistake(Place { line, column, width: 0 }, message)
    }

    /// On one line, without the quoted text.
    #[must_use]
    pub fn brief(&self) -> String {
        let help = self.help.as_ref().map(|help| format!(" ({help})")).unwrap_or_default();
        format!("{}:{}:{}: {}{help}", self.file.display(), self.line, self.column, self.message)
    }

    /// It, with what would be right.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.warning { "warning: " } else { "" };
        write!(f, "{}:{}:{}: {kind}{}", self.file.display(), self.line, self.column, self.message)?;
        let number = if self.quote.is_some() { self.line.to_string() } else { String::new() };
        if let Some(quote) = &self.quote {
            write!(f, "\n  {number:>4} | {}", quote.text)?;
            write!(f, "\n  {:>4} | {}{}", "", " ".repeat(quote.indent), "^".repeat(quote.width))?;
        }
        if let Some(help) = &self.help {
            write!(f, "\n  {:>4} = {help}", "")?;
        }
        Ok(())
    }
}

/// The text of one document and where it stands.
pub struct Source<'a> {
    file: PathBuf,
    text: &'a str,
    /// Lines of the file before it.
    before: u64,
    /// Found when there is something to say, which mostly there is not.
    secrets: OnceCell<Secrets>,
}

/// Of a quoted line; a longer one is cut around the caret.
const WIDEST: usize = 160;

impl<'a> Source<'a> {
    /// `before`: how many lines of the file stand before the text.
    pub fn new(file: impl Into<PathBuf>, text: &'a str, before: u64) -> Self {
        Self { file: file.into(), text, before, secrets: OnceCell::new() }
    }

    /// The same line number as in the file.
    pub fn line(&self, place: Place) -> u64 {
        self.before + place.line
    }

    fn secrets(&self) -> &Secrets {
        self.secrets.get_or_init(|| Secrets::find(self.text))
    }

    /// A message without the secrets of the text.
    pub fn redact(&self, message: &str) -> String {
        self.secrets().redact(message)
    }

    /// A mistake at a place in it. The message is taken as it is.
    pub fn mistake(&self, at: Place, message: &str) -> Diagnostic {
        Diagnostic {
            file: self.file.clone(),
            line: self.before + at.line,
            column: at.column,
            message: message.to_owned(),
            help: None,
            quote: self.quote(at),
            warning: false,
        }
    }

    fn quote(&self, at: Place) -> Option<Box<Quote>> {
        let number = usize::try_from(at.line).ok()?.checked_sub(1)?;
        let begin = self.text.split_inclusive('\n').take(number).map(str::len).sum::<usize>();
        let line = self.text.get(begin..)?.lines().next()?;
        let masked = self.secrets().mask(begin, line);
        let column = usize::try_from(at.column).ok()?.saturating_sub(1);
        let width = match usize::try_from(at.width).unwrap_or(1) {
            // Where nobody knows how much is meant, it is a word.
            0 => line.chars().skip(column).take_while(|c| !c.is_whitespace() && !",]}".contains(*c)).count().max(1),
            known => known,
        };
        let last = column.saturating_add(width).saturating_sub(1);
        // Where the caret's first and last characters have gone in the masked line. Past the end there is one more place.
        let shown = |column: usize| masked.iter().position(|(_, from)| *from >= column).unwrap_or(masked.len());
        let (first, end) = (shown(column), shown(last.saturating_add(1)));
        let width = end.saturating_sub(first).max(1);
        let cut = if masked.len() > WIDEST { first.saturating_sub(WIDEST / 2) } else { 0 };
        let visible = masked.iter().skip(cut).take(WIDEST);
        // A tab or a control character would move the caret, or the terminal.
        let text: String = visible.map(|(c, _)| if c.is_control() { ' ' } else { *c }).collect();
        let width = width.min((WIDEST + cut).saturating_sub(first)).max(1);
        Some(Box::new(Quote { text: text.trim_end().to_owned(), indent: first - cut, width }))
    }
}

/// The YAML parser's words in those of this program, on one line and without the place, which stands before them.
pub fn plain(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    let line = text.lines().next().unwrap_or_default();
    let line = line.rsplit_once(" at line ").map_or(line, |(message, _)| message);
    let line = line.split_once(", set DuplicateKeyPolicy").map_or(line, |(message, _)| message);
    match line {
        "expected string scalar" => "expected a single value".to_owned(),
        "expected sequence start" => "expected a list".to_owned(),
        "expected mapping start" => "expected a mapping, each line of it `key: value`".to_owned(),
        _ => line.replace("unknown field", "unknown key").replace("unknown variant", "unknown value"),
    }
}
