//! What commands print for people: aligned, without colours, and without what could play with a terminal.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io;
use std::time::Duration;

/// A cell without a value.
pub const NOTHING: &str = "-";
/// Between two columns.
const GAP: &str = "  ";
/// The last column is not cut to less than this; then lines are longer than the terminal is wide.
const NARROWEST: usize = 24;

/// How long something has been so, in one unit or two, as kubectl has it: `3m20s`, `47h`.
pub fn age(time: Duration) -> String {
    let seconds = time.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let two = |larger, unit, rest, smaller| match rest {
        0 => format!("{larger}{unit}"),
        _ => format!("{larger}{unit}{rest}{smaller}"),
    };
    match (minutes, hours, days) {
        (..2, ..) => format!("{seconds}s"),
        (..10, ..) => two(minutes, 'm', seconds % 60, 's'),
        (..180, ..) => format!("{minutes}m"),
        (_, ..8, _) => two(hours, 'h', minutes % 60, 'm'),
        (_, ..48, _) => format!("{hours}h"),
        (.., ..8) => two(days, 'd', hours % 24, 'h'),
        _ => format!("{days}d"),
    }
}

/// How long something took, with what of it can matter: `35ms`, `1.2s`, `2m10s`.
pub fn took(time: Duration) -> String {
    let (seconds, millis) = (time.as_secs(), time.subsec_millis());
    match seconds {
        0 if millis == 0 => "<1ms".to_owned(),
        0 => format!("{millis}ms"),
        1..10 => format!("{seconds}.{}s", millis / 100),
        10..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{}s", seconds / 60, seconds % 60),
        _ => format!("{}h{}m", seconds / 3600, seconds / 60 % 60),
    }
}

/// A size: `3.1 MiB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let power = bytes.checked_ilog2().unwrap_or_default() / 10;
    let name = UNITS[power as usize];
    if power == 0 {
        return format!("{bytes} {name}");
    }
    let unit = 1_u128 << (10 * power);
    let tenths = (u128::from(bytes) * 10 + unit / 2) / unit;
    format!("{}.{} {name}", tenths / 10, tenths % 10)
}

/// On one line, with everything escaped that is not to be seen as it is: what hooks print must not move a cursor or turn a line around.
pub fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        // Those that change the direction of what follows, and those that break lines without being control characters.
        let acts =
            c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if acts {
            let _ = write!(shown, "{}", c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// As [`visible`], with its lines and tabs kept, each line after `indent`; ends with a line feed.
pub fn block(text: &str, indent: &str) -> String {
    let mut shown = String::new();
    for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
        let words: Vec<String> = line.split('\t').map(visible).collect();
        let _ = writeln!(shown, "{}", format!("{indent}{}", words.join("\t")).trim_end());
    }
    shown
}

/// As much of it as `most` characters hold; the last one shows that there is more.
fn cut(text: &str, most: usize) -> Cow<'_, str> {
    if text.chars().nth(most).is_none() {
        return text.into();
    }
    let kept: String = text.chars().take(most.saturating_sub(1)).collect();
    format!("{kept}…").into()
}

/// How many characters fit on a line of standard output; as many as there are, if that is no terminal.
pub fn columns() -> usize {
    terminal_size::terminal_size_of(io::stdout()).map_or(usize::MAX, |(width, _)| width.0.into())
}

/// Rows of cells, as wide as the widest of each column.
#[derive(Debug)]
pub struct Table<const N: usize> {
    columns: usize,
    widths: [usize; N],
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    /// With this first row. The last cell of each row is cut where a line of so many `columns` ends.
    pub fn new(head: [&str; N], columns: usize) -> Self {
        let mut table = Self { columns, widths: [0; N], rows: Vec::new() };
        table.add(head.map(str::to_owned));
        table
    }

    /// Makes columns at least so wide: for rows that come after some are printed.
    pub fn at_least(&mut self, widths: [usize; N]) {
        self.widths = std::array::from_fn(|n| self.widths[n].max(widths[n]));
    }

    /// One more row.
    pub fn add(&mut self, row: [String; N]) {
        let row = row.map(|cell| visible(&cell));
        self.at_least(std::array::from_fn(|n| row[n].chars().count()));
        self.rows.push(row);
    }

    /// The rows that have not been printed yet, each a line.
    pub fn print(&mut self) -> String {
        let mut page = String::new();
        let mut widths = self.widths;
        if let Some((last, before)) = widths.split_last_mut() {
            let taken: usize = before.iter().map(|width| width + GAP.len()).sum();
            *last = self.columns.saturating_sub(taken).max(NARROWEST).min(*last);
        }
        for row in self.rows.drain(..) {
            let cells = row.iter().zip(widths).map(|(cell, width)| format!("{:<width$}", cut(cell, width)));
            let cells: Vec<String> = cells.collect();
            let _ = writeln!(page, "{}", cells.join(GAP).trim_end());
        }
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_are_told_in_a_few_characters() {
        let ages = [0, 119, 120, 500, 600, 3 * 3600, 5 * 3600 + 660, 47 * 3600, 49 * 3600, 9 * 86_400];
        let ages = ages.map(|seconds| age(Duration::from_secs(seconds)));
        assert_eq!(ages, ["0s", "119s", "2m", "8m20s", "10m", "3h", "5h11m", "47h", "2d1h", "9d"]);
        let times = [0, 35, 1250, 12_500, 130_000, 7_260_000].map(|millis| took(Duration::from_millis(millis)));
        assert_eq!(times, ["<1ms", "35ms", "1.2s", "12s", "2m10s", "2h1m"]);
        let sizes = [0, 1023, 1536, 3_250_586, u64::MAX].map(size);
        assert_eq!(sizes, ["0 B", "1023 B", "1.5 KiB", "3.1 MiB", "16.0 EiB"]);
    }

    #[test]
    fn nothing_that_is_shown_plays_with_a_terminal() {
        assert_eq!(visible("a\u{1b}[2Jb\r\n\u{9b}1m\u{202e}é"), "a\\u{1b}[2Jb\\r\\n\\u{9b}1m\\u{202e}é");
        assert_eq!(block("a\tb\n\u{7}\n", "  "), "  a\tb\n  \\u{7}\n");
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(["A", "B"], usize::MAX);
        table.add(["long".into(), "x".into()]);
        assert_eq!(table.print(), "A     B\nlong  x\n");
        table.add(["é".into(), String::new()]);
        assert_eq!(table.print(), "é\n");
    }

    #[test]
    fn the_last_column_is_cut_where_the_terminal_ends_unless_little_were_left_of_it() {
        let cut_at = |columns| {
            let mut table = Table::new(["A", "B"], columns);
            table.add(["long".to_owned(), "x".repeat(40)]);
            table.print().lines().nth(1).unwrap_or_default().to_owned()
        };
        assert_eq!(cut_at(46), format!("long  {}", "x".repeat(40)));
        assert_eq!(cut_at(36), format!("long  {}…", "x".repeat(29)));
        assert_eq!(cut_at(10), format!("long  {}…", "x".repeat(NARROWEST - 1)));
    }
}
