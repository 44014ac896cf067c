//! crihook's own commands, as people and scripts use them against a crihook that serves.

mod follow;
mod history;
mod pause;
mod replay;
mod status;

use std::process::{Command, Stdio};

use super::*;
use crate::wire::peer::exposition::get;
use crate::wire::peer::process::bare;

/// What a command has come to.
#[derive(Debug)]
pub struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Said {
    /// What it printed; it has succeeded, and had nothing else to say.
    #[track_caller]
    pub fn text(self) -> String {
        assert_eq!((self.code, &*self.err), (Some(0), ""), "{}", self.out);
        self.out
    }

    /// The document that it printed.
    #[track_caller]
    pub fn document(self) -> Value {
        serde_json::from_str(&self.text()).expect("a document")
    }

    /// What it complained about; it has printed nothing else.
    #[track_caller]
    fn refused(self, code: i32) -> String {
        assert_eq!((self.code, &*self.out), (Some(code), ""), "{}", self.err);
        self.err
    }
}

/// `crihook` with these arguments, for the crihook of this place.
fn command(place: &Place, arguments: &[&str]) -> Command {
    let mut command = bare();
    command.args(arguments).env("CRIHOOK_ADMIN_SOCKET", place.path("admin.sock")).stdin(Stdio::null());
    command
}

/// What that command says.
pub async fn ask(place: &Place, arguments: &[&str]) -> Said {
    // The servers and the runtime of a test are tasks, which have to go on.
    let output = tokio::process::Command::from(command(place, arguments)).output();
    let output = within("the command", output).await.expect("it runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    Said { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// As [`ask`], once the admin socket is there.
async fn ask_first(place: &Place, arguments: &[&str]) -> Said {
    until("the admin socket", || tokio::net::UnixStream::connect(place.path("admin.sock"))).await;
    ask(place, arguments).await
}

/// In the order of the alphabet.
fn sorted<T: Ord>(all: impl Iterator<Item = T>) -> Vec<T> {
    let mut all: Vec<T> = all.collect();
    all.sort_unstable();
    all
}

/// Compares a page with the snapshot of that name, but for what differs from one time to the next.
fn assert_page(name: &str, place: &Place, page: &str) {
    let directory = place.path("");
    let directory = directory.to_str().expect("text").trim_end_matches('/');
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.add_filter(directory, "DIR");
    settings.add_filter(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}", "<uuid>");
    settings.add_filter(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "<time>");
    settings.add_filter(r"(<\d|\b\d+(\.\d)?)m?s\b *", "<n>s ");
    settings.add_filter(r"\b[0-9a-f]{8}\b", "<id>");
    settings.add_filter(r"\b[0-9a-f]{16,}\b", "<hash>");
    settings.add_filter(r"\b\d+ runs?, \d+(\.\d+)? ([KMG]i)?B", "<n> runs, <size>");
    settings.add_filter(r"\(pid \d+\)", "(pid <pid>)");
    settings.bind(|| insta::assert_snapshot!(name, page));
}
