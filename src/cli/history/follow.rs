//! `crihook history --follow`: runs as they end, over restarts and upgrades of the crihook that is followed.

use std::io::{self, ErrorKind, Write as _};
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tokio::time::sleep;

use super::{List, Run, head, row};
use crate::cli::Output;
use crate::cli::client::{Client, Lines, Refused};
use crate::cli::text::{Table, columns};

/// Between two looks for a crihook where there was one.
const AGAIN: Duration = Duration::from_secs(1);
/// How many runs are looked through, after a break, for those that have ended meanwhile.
const MISSED: usize = 1000;

/// Shows them until it is interrupted, or nobody reads them any more.
pub(super) async fn follow(list: &List, client: &Client) -> Result<(), Refused> {
    let mut shown = Shown::new(list.asking.output);
    let mut lines = client.lines("/v1/runs", &list.query(list.limit())).await?;
    let mut known = SystemTime::UNIX_EPOCH;
    loop {
        match shown.all(&mut lines, client, known).await {
            Err(Refused::Output(error)) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            Err(refused) if !refused.passes() => return Err(refused),
            Ok(()) | Err(_) => {}
        }
        eprintln!("crihook: the crihook that was followed is ending; waiting for the next one");
        known = shown.until;
        lines = again(list, client).await?;
        eprintln!("crihook: following the next one; what the one before still finishes is in `crihook history`");
    }
}

/// Waits for a crihook that can be followed.
async fn again(list: &List, client: &Client) -> Result<Lines, Refused> {
    loop {
        sleep(AGAIN).await;
        match client.lines("/v1/runs", &list.query(MISSED)).await {
            Err(refused) if refused.passes() => {}
            lines => return lines,
        }
    }
}

struct Shown {
    output: Output,
    table: Table<10>,
    /// Whatever had ended by then has been shown, or was not asked for.
    until: SystemTime,
}

impl Shown {
    fn new(output: Output) -> Self {
        let mut table = Table::new(head("ENDED"), columns());
        // What comes later has to fit under what is there.
        table.at_least([20, 28, 10, 24, 18, 9, 0, 8, 8, 0]);
        Self { output, table, until: SystemTime::now() }
    }

    /// Shows what comes, but for runs that had ended by `known`, until nothing more comes.
    async fn all(&mut self, lines: &mut Lines, client: &Client, known: SystemTime) -> Result<(), Refused> {
        while let Some(document) = lines.next().await? {
            if let Some(missed) = document.get("missed") {
                eprintln!("crihook: {missed} runs were missed; `crihook history` has them");
                continue;
            }
            let run: Run = client.understand(document.clone())?;
            if let Some(ended) = run.ended_at.filter(|ended| *ended > known) {
                self.one(&document, &run, ended)?;
                self.until = self.until.max(ended);
            }
        }
        Ok(())
    }

    fn one(&mut self, document: &Value, run: &Run, ended: SystemTime) -> io::Result<()> {
        let line = if self.output == Output::Json {
            format!("{document}\n")
        } else {
            self.table.add(row(run, ended, humantime::format_rfc3339_seconds(ended).to_string()));
            self.table.print()
        };
        let mut out = io::stdout();
        out.write_all(line.as_bytes()).and_then(|()| out.flush())
    }
}
