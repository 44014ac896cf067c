//! From what a document says to what it means, or to everything that is wrong with it.

mod action;
mod hook;
mod server;

use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::diagnostic::{Diagnostic, Place, Source};
use super::raw::{self, At};
use super::{Policy, Template};
use crate::hooks::Defaults;
use crate::hooks::matcher::{Globs, Requirement, Selector, Test};

/// What is found in one document.
pub struct Report<'a> {
    source: &'a Source<'a>,
    mistakes: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
}

impl<'a> Report<'a> {
    pub fn new(source: &'a Source<'a>) -> Self {
        Self { source, mistakes: vec![], warnings: vec![] }
    }

    /// Something is wrong, and what would be right.
    pub fn wrong(&mut self, at: Place, message: impl Display, help: impl Display) {
        let message = self.source.redact(&message.to_string());
        self.mistakes.push(self.source.mistake(at, &message).help(help.to_string()));
    }

    /// Something is wrong, and the message says all.
    pub fn mistake(&mut self, at: Place, message: &str) {
        self.mistakes.push(self.source.mistake(at, &self.source.redact(message)));
    }

    /// Something is worth a thought.
    pub fn warn(&mut self, at: Place, message: impl Display, help: impl Display) {
        let message = self.source.redact(&message.to_string());
        let warning = self.source.mistake(at, &message).help(help.to_string());
        self.warnings.push(Diagnostic { warning: true, ..warning });
    }

    /// Mistakes and warnings, as they follow in the text.
    pub fn into_parts(mut self) -> (Vec<Diagnostic>, Vec<Diagnostic>) {
        self.mistakes.sort_by_key(|it| (it.line, it.column));
        self.warnings.sort_by_key(|it| (it.line, it.column));
        (self.mistakes, self.warnings)
    }

    fn is_clean_since(&self, mistakes: usize) -> bool {
        self.mistakes.len() == mistakes
    }

    /// What must be given.
    fn required<T>(&mut self, value: Option<T>, parent: Place, what: &str, help: &str) -> Option<T> {
        if value.is_none() {
            self.wrong(parent, format!("there is no {what}"), help);
        }
        value
    }

    /// A text with `$(NAME)` in it.
    fn template(&mut self, text: &At<String>) -> Option<Template> {
        let found = Template::parse(text);
        found
            .map_err(|unknown| {
                let plain = unknown.0.len() <= 40
                    && unknown.0.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
                // Not a name at all, but perhaps a piece of a password.
                let name = if plain { unknown.0.as_str() } else { "..." };
                let there = super::Name::ALL.iter().map(|name| name.text()).collect::<Vec<_>>().join(", ");
                let help = format!("write one of {there}, or `$$({name})` to have it as it is");
                // A name may be said even where values may not.
                let message = format!("`$({name})` is not known");
                self.mistakes.push(self.source.mistake(text.place(), &message).help(help));
            })
            .ok()
    }

    /// A length of time that is more than none and no more than a day.
    fn duration(&mut self, text: &At<String>, what: &str) -> Option<Duration> {
        let at = text.place();
        let help = "write one as 200ms, 10s or 1m30s";
        match humantime::parse_duration(text) {
            Ok(Duration::ZERO) => self.wrong(at, format!("a {what} of zero is none"), help),
            Ok(long) if long > LONGEST => self.wrong(at, format!("a {what} of more than a day"), "write at most 24h"),
            Ok(duration) => return Some(duration),
            Err(_) => self.wrong(at, format!("`{}` is not a duration with its unit", **text), help),
        }
        None
    }
}

/// Of any time that a policy names.
const LONGEST: Duration = Duration::from_hours(24);

/// The policy, and where its name stands.
pub fn policy(
    report: &mut Report<'_>,
    document: raw::Document,
    defaults: &Defaults,
    file: &Path,
) -> Option<(Policy, Place)> {
    let before = report.mistakes.len();
    let help = "write `metadata: {name: drain-web}`";
    let metadata = report.required(document.metadata, Place::START, "metadata", help);
    let name = metadata.and_then(|metadata| {
        let at = metadata.place();
        report.required(metadata.into_inner().name, at, "name in metadata", help)
    });
    if let Some(name) = &name
        && !is_dns_name(name, 253, true)
    {
        let help = "use lower-case letters, digits, `-` and `.`, with a letter or digit at both ends";
        report.wrong(name.place(), format!("`{}` cannot be a policy's name", **name), help);
    }
    let spec = report.required(document.spec, Place::START, "spec", "write `spec:` with `hooks:` below it")?;
    let at_spec = spec.place();
    let spec = spec.into_inner();
    let raw_match = spec.r#match.unwrap_or_default();
    // Given lists that hold nothing ask for nothing.
    let by_container = [&raw_match.containers, &raw_match.images].into_iter().flatten().any(|list| !list.is_empty());
    let selector = selector(report, raw_match);
    let hooks = report.required(spec.hooks, at_spec, "hooks in spec", "write `hooks:` and a list of them")?;
    if hooks.is_empty() {
        report.wrong(
            hooks.place(),
            "a policy without hooks does nothing",
            "write at least one hook, or remove the document",
        );
    }
    let policy: Arc<str> = name.as_deref().map_or("", String::as_str).into();
    let context =
        hook::Context { policy: Arc::clone(&policy), defaults, by_container, named: selector.names_namespaces() };
    let mut known: Vec<(Arc<str>, Place)> = Vec::new();
    let mut valid = Vec::new();
    for raw in hooks.into_inner() {
        let at = raw.name.as_ref().map_or(raw.place(), At::place);
        if let Some(hook) = hook::hook(report, &context, raw) {
            if known.iter().any(|(name, _)| *name == hook.name) {
                let message = format!("there is a hook `{}` already in this policy", hook.name);
                report.wrong(at, message, "give each hook of a policy a name of its own");
            }
            known.push((Arc::clone(&hook.name), at));
            valid.push(Arc::new(hook));
        }
    }
    let name = name?;
    let line = report.source.line(Place::START);
    let policy = Policy { name: policy, selector, hooks: valid, file: file.to_owned(), line };
    report.is_clean_since(before).then(|| (policy, name.place()))
}

/// As much of a `match` as is right.
fn selector(report: &mut Report<'_>, raw: raw::Match) -> Selector {
    let mut globs = |list: Option<At<Vec<At<String>>>>, empty_is_a_name: bool| {
        list.map(At::into_inner).unwrap_or_default().into_iter().fold(Globs::default(), |globs, text| {
            if text.is_empty() && !empty_is_a_name {
                report.wrong(text.place(), "an empty pattern matches nothing", "write a name or a glob, or remove it");
                return globs;
            }
            match globs.clone().with(&text) {
                Ok(longer) => longer,
                Err(bad) => {
                    report.wrong(text.place(), bad, "write a name, or a glob as `team-*`; `!` before it excludes");
                    globs
                }
            }
        })
    };
    let namespaces = globs(raw.namespaces, false);
    let containers = globs(raw.containers, false);
    let images = globs(raw.images, false);
    let runtime_handlers = globs(raw.runtime_handlers, true);
    let mut labels = Vec::new();
    if let Some(selector) = raw.pod_selector {
        let equal = selector.match_labels.into_iter().flatten();
        labels.extend(equal.map(|(key, value)| Requirement { key, test: Test::In(vec![value]) }));
        let expressions = selector.match_expressions.into_iter().flatten();
        labels.extend(expressions.filter_map(|expression| requirement(report, expression)));
    }
    let annotations = raw.annotations.into_iter().flatten().collect();
    Selector { namespaces, labels, annotations, containers, images, runtime_handlers }
}

fn requirement(report: &mut Report<'_>, expression: At<raw::Expression>) -> Option<Requirement> {
    let at = expression.place();
    let raw::Expression { key, operator, values } = expression.into_inner();
    let key = report.required(key, at, "key in the expression", "write the label's name as `key`");
    if let Some(key) = key.as_ref().filter(|key| key.is_empty()) {
        report.wrong(key.place(), "a label's name is not empty", "write the label's name as `key`");
    }
    let operators = "In, NotIn, Exists or DoesNotExist";
    let operator = report.required(operator, at, "operator in the expression", &format!("write {operators}"))?;
    let of_values = |report: &mut Report<'_>, values: Option<At<Vec<String>>>| match values {
        Some(values) if !values.is_empty() => Some(values.into_inner()),
        _ => {
            let message = format!("{} compares with values, and there are none", *operator);
            report.wrong(operator.place(), message, "write `values: [front]`");
            None
        }
    };
    let test = match operator.as_str() {
        "In" => Test::In(of_values(report, values)?),
        "NotIn" => Test::NotIn(of_values(report, values)?),
        other @ ("Exists" | "DoesNotExist") => {
            if let Some(values) = values.filter(|values| !values.is_empty()) {
                let message = format!("{other} compares with no values");
                report.wrong(values.place(), message, "remove them, or write In or NotIn");
                return None;
            }
            if other == "Exists" { Test::Exists } else { Test::DoesNotExist }
        }
        other => {
            report.wrong(operator.place(), format!("`{other}` is not an operator"), format!("write {operators}"));
            return None;
        }
    };
    Some(Requirement { key: key?.into_inner(), test })
}

/// Whether a name is one that Kubernetes would give an object.
fn is_dns_name(name: &str, longest: usize, dots: bool) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    name.len() <= longest
        && edge(name.chars().next())
        && edge(name.chars().last())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || (dots && c == '.'))
}
