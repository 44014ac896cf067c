//! An explanation for people: aligned, without colours.

use std::fmt::{self, Write};

use super::plan::{At, Explanation, Planned, Subject, Unmatched, written};

/// What a hook does is cut after so many characters; JSON has all of it.
const WIDEST: usize = 60;

const HEAD: [&str; 7] = ["HOOK", "DOES", "MODE", "ON FAILURE", "TIMEOUT", "ATTEMPTS", "AT MOST"];

/// All of it, ending with a line feed.
pub(super) fn render(explanation: &Explanation) -> String {
    let mut page = String::new();
    // Writing to a string does not fail.
    let _ = whole(&mut page, explanation);
    page
}

fn whole(page: &mut String, explanation: &Explanation) -> fmt::Result {
    let Explanation { namespace, name, kind, notes, subjects, unmatched } = explanation;
    let of = if kind.is_empty() || kind == "Pod" { String::new() } else { format!(" of the {kind}") };
    writeln!(page, "pod {namespace}/{name}{of}")?;
    for note in notes {
        writeln!(page, "  {note}")?;
    }
    let widths = widths(subjects);
    for subject in subjects {
        writeln!(page)?;
        heading(page, subject)?;
        if subject.points.iter().all(|at| at.hooks.is_empty()) {
            writeln!(page, "  no hooks")?;
            continue;
        }
        row(page, "", HEAD.map(str::to_owned), &widths)?;
        for at in &subject.points {
            point(page, at, &widths)?;
        }
    }
    if subjects.is_empty() {
        writeln!(page, "\nno hooks")?;
    }
    others(page, explanation, unmatched)
}

fn heading(page: &mut String, subject: &Subject) -> fmt::Result {
    match (subject.kind, &subject.container) {
        (Some(kind), Some(name)) => write!(page, "{} {name}", kind.words())?,
        _ => write!(page, "sandbox")?,
    }
    if let Some(id) = &subject.id {
        write!(page, " {}", id.get(..13).unwrap_or(id))?;
    }
    match &subject.image {
        Some(image) => writeln!(page, " ({image})"),
        None => writeln!(page),
    }
}

fn point(page: &mut String, at: &At, widths: &[usize; 7]) -> fmt::Result {
    write!(page, "  {}", at.point)?;
    match &at.budget {
        Some(budget) => writeln!(page, ": {} in all, {}", written(budget.time), budget.because)?,
        None => writeln!(page)?,
    }
    for (n, hook) in at.hooks.iter().enumerate() {
        row(page, &(n + 1).to_string(), cells(hook), widths)?;
        for note in &hook.notes {
            writeln!(page, "       {note}")?;
        }
    }
    for note in &at.notes {
        writeln!(page, "     ({note})")?;
    }
    Ok(())
}

fn cells(hook: &Planned) -> [String; 7] {
    let mut does = hook.does.replace(char::is_control, " ");
    if let Some((end, _)) = does.char_indices().nth(WIDEST) {
        does.truncate(end);
        does.push('…');
    }
    [
        format!("{}/{}", hook.policy, hook.hook),
        does,
        hook.mode.to_owned(),
        hook.failure_policy.to_owned(),
        written(hook.timeout),
        hook.attempts.to_string(),
        written(hook.at_most),
    ]
}

fn widths(subjects: &[Subject]) -> [usize; 7] {
    let mut widths = HEAD.map(|head| head.chars().count());
    for hook in subjects.iter().flat_map(|subject| &subject.points).flat_map(|at| &at.hooks) {
        for (width, cell) in widths.iter_mut().zip(cells(hook)) {
            *width = (*width).max(cell.chars().count());
        }
    }
    widths
}

fn row(page: &mut String, number: &str, cells: [String; 7], widths: &[usize; 7]) -> fmt::Result {
    let mut line = format!("  {number:>2}");
    for (cell, width) in cells.into_iter().zip(widths) {
        write!(line, "  {cell:<width$}")?;
    }
    writeln!(page, "{}", line.trim_end())
}

/// The policies that do not match: what fails for all alike in one line.
fn others(page: &mut String, explanation: &Explanation, unmatched: &[Unmatched]) -> fmt::Result {
    if unmatched.is_empty() {
        return Ok(());
    }
    writeln!(page, "\nwhat does not match")?;
    let containers = explanation.subjects.iter().filter(|subject| subject.container.is_some()).count();
    let mut rest = unmatched.to_vec();
    while let Some(Unmatched { policy, file, line, .. }) = rest.first().cloned() {
        writeln!(page, "  {policy} ({file}:{line})")?;
        let mut own: Vec<Unmatched> = rest.extract_if(.., |other| other.policy == policy).collect();
        while let Some(reason) = own.first().map(|first| first.reason.clone()) {
            let alike: Vec<Unmatched> = own.extract_if(.., |other| other.reason == reason).collect();
            let named: Vec<&str> = alike.iter().filter_map(|one| one.container.as_deref()).collect();
            if named.len() == containers || named.is_empty() {
                writeln!(page, "      {reason}")?;
            } else {
                writeln!(page, "      {}: {reason}", named.join(", "))?;
            }
        }
    }
    Ok(())
}
