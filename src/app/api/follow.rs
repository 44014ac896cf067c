//! Runs as they end, a document a line, for as long as somebody reads.
//!
//! Nothing waits for a reader: what has ended is looked up only when there is room for it, and one who is more than [`super::BEHIND`] runs late is told
//! how many it has missed: `{"missed": 17}`. It ends when a drain starts.

use std::collections::{HashSet, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde::Serialize;
use serde_json::json;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::admin::Body;
use crate::drain::Drain;
use crate::journal::{Filter, Journal, Run};

struct Following {
    journal: Arc<dyn Journal>,
    ending: broadcast::Receiver<Arc<str>>,
    drain: Drain,
    filter: Filter,
    /// Those that had ended before, the oldest first.
    before: VecDeque<Run>,
    /// Their ids: one may be among those that end, too.
    known: HashSet<Arc<str>>,
    over: bool,
}

/// The newest runs that pass `filter` and have ended, and then those of `ending`.
///
/// # Errors
/// Says why the journal cannot be read.
pub(super) async fn lines(
    journal: Arc<dyn Journal>,
    ending: broadcast::Receiver<Arc<str>>,
    drain: Drain,
    filter: Filter,
) -> Result<Body, String> {
    let filter = Filter { ended: Some(true), ..filter };
    // One that ended right before `ending` began may not be safe yet, and would be in neither.
    journal.recorded().await;
    let mut before: VecDeque<Run> = match filter.limit {
        0 => VecDeque::new(),
        _ => journal.runs(filter.clone()).await?.into(),
    };
    before.make_contiguous().reverse();
    let known = before.iter().map(|run| Arc::clone(&run.id)).collect();
    let following = Following { journal, ending, drain, filter, before, known, over: false };
    let lines = stream::unfold(following, async |mut following| {
        let line = following.next().await?;
        Some((Ok::<_, Infallible>(Frame::data(line)), following))
    });
    Ok(StreamBody::new(lines).boxed_unsync())
}

impl Following {
    async fn next(&mut self) -> Option<Bytes> {
        if self.over {
            return None;
        }
        if let Some(run) = self.before.pop_front() {
            return Some(line(&run));
        }
        loop {
            let id = tokio::select! {
                biased;
                () = self.drain.draining().cancelled_owned() => return None,
                ended = self.ending.recv() => match ended {
                    Ok(id) => id,
                    Err(RecvError::Lagged(missed)) => return Some(line(&json!({"missed": missed}))),
                    Err(RecvError::Closed) => return None,
                },
            };
            if self.known.remove(&id) {
                continue;
            }
            match self.look_up(id).await {
                Ok(Some(run)) => return Some(line(&run)),
                Ok(None) => {}
                Err(why) => {
                    self.over = true;
                    return Some(line(&json!({"error": format!("the journal cannot be read: {why}")})));
                }
            }
        }
    }

    /// The run, if it passes.
    async fn look_up(&self, id: Arc<str>) -> Result<Option<Run>, String> {
        if self.filter.id.as_ref().is_some_and(|part| !id.starts_with(part.as_str()) && !id.ends_with(part.as_str())) {
            return Ok(None);
        }
        // Its end was written before it was told, and is read only after it is safe.
        self.journal.recorded().await;
        let one = Filter { id: Some(id.to_string()), limit: 1, ..self.filter.clone() };
        Ok(self.journal.runs(one).await?.pop())
    }
}

fn line(document: &impl Serialize) -> Bytes {
    // Runs are texts, numbers and times that can be written.
    let mut line = serde_json::to_vec(document).unwrap_or_default();
    line.push(b'\n');
    line.into()
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::mem;
    use std::sync::Mutex;
    use std::time::SystemTime;

    use super::*;
    use crate::journal::testing::Recorded;
    use crate::journal::{Boxed, Done, Entry, Health, NewRun};
    use crate::lifecycle::{Event, Outcome, Point};

    /// What is written can be read once somebody has waited for it.
    #[derive(Default)]
    struct Late(Arc<(Mutex<Vec<Entry>>, Recorded)>);

    impl Journal for Late {
        fn write(&self, entry: Entry) {
            self.0.0.lock().unwrap().push(entry);
        }

        fn recorded(&self) -> Boxed<'static, ()> {
            let both = Arc::clone(&self.0);
            Box::pin(async move {
                for entry in mem::take(&mut *both.0.lock().unwrap()) {
                    both.1.write(entry);
                }
            })
        }

        fn runs(&self, filter: Filter) -> Boxed<'static, Result<Vec<Run>, String>> {
            self.0.1.runs(filter)
        }

        fn begun(&self, id: &str) -> Boxed<'static, Result<Option<Arc<NewRun>>, String>> {
            self.0.1.begun(id)
        }

        fn done_elsewhere(&self, _: &str) -> Option<Boxed<'static, Vec<Done>>> {
            None
        }

        fn health(&self) -> Health {
            Health::default()
        }
    }

    #[tokio::test]
    async fn a_run_that_ended_right_before_somebody_followed_is_told() {
        let (journal, ended) = (Arc::new(Late::default()), broadcast::Sender::<Arc<str>>::new(4));
        let event = Event {
            point: Point::POST_START,
            pod: Arc::default(),
            container: None,
            grace: None,
            at: SystemTime::now().into(),
            trace: None,
        };
        let (id, at): (Arc<str>, _) = ("run-1".into(), SystemTime::now());
        let run = NewRun {
            id: Arc::clone(&id),
            policy: "web".into(),
            hook: "announce".into(),
            handler: Cow::Borrowed("webhook"),
            mode: Cow::Borrowed("Background"),
            event: Arc::new(event),
            once: false,
            replay_of: None,
            created_at: at,
        };
        journal.write(Entry::Begin { run: Arc::new(run), intended: false });
        journal.write(Entry::End { id, at, outcome: Outcome::Succeeded, reason: None });
        let filter = Filter { id: Some("run-1".to_owned()), limit: 1, ..Filter::default() };
        let mut lines = lines(journal, ended.subscribe(), Drain::default(), filter).await.unwrap();
        let line = tokio::time::timeout(std::time::Duration::from_secs(10), lines.frame()).await.expect("it is told");
        let line = line.unwrap().unwrap().into_data().unwrap();
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&line).unwrap()["outcome"], "succeeded");
    }
}
