//! The clients of one socket: so many at once, and what is said of those that had to go.
//!
//! When the last place is taken, whoever came first of those that crihook waits for has to go. So clients that never read keep nobody from an
//! answer, however many they are; who does read is done before it is its turn to go.

use std::mem;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

use super::turn::{LIMIT, Turn, Turns};

/// Clients at once: each may hold a page of half a MiB, and a descriptor that calls need.
pub const CLIENTS: usize = 32;
/// Nobody has to go who was not waited for for as long as this; those who are served at once are done by then.
const GRACE: Duration = Duration::from_millis(100);
/// Between two lines about clients that had to go.
const SAY_EVERY: Duration = Duration::from_mins(10);

/// A client that has a place.
struct Open {
    peer: Arc<str>,
    turns: Turns,
    task: AbortHandle,
}

/// The clients of one socket.
pub struct Connections {
    places: Arc<Semaphore>,
    /// Who came first is first.
    open: Vec<Open>,
    complaint: Arc<Complaint>,
}

impl Connections {
    /// Those of `socket`, which is what people call it.
    pub fn new(socket: &'static str) -> Self {
        let complaint = Arc::new(Complaint { socket, said: Mutex::default() });
        Self { places: Arc::new(Semaphore::new(CLIENTS)), open: Vec::new(), complaint }
    }

    /// The place of the next client, as soon as there is one.
    pub async fn place(&mut self) -> OwnedSemaphorePermit {
        loop {
            self.open.retain(|client| !client.task.is_finished());
            if self.places.available_permits() == 0 {
                self.make_room();
            }
            if let Ok(Ok(place)) = timeout(GRACE, Arc::clone(&self.places).acquire_owned()).await {
                return place;
            }
        }
    }

    fn make_room(&mut self) {
        let slow = |client: &Open| {
            let (turn, since) = client.turns.now();
            turn.is_the_clients() && since.elapsed() >= GRACE
        };
        if let Some(oldest) = self.open.iter().position(slow) {
            let Open { peer, turns, task } = self.open.remove(oldest);
            task.abort();
            self.complaint.make(&peer, turns.now().0, &format!("by the time that all {CLIENTS} places were taken"));
        }
    }

    /// Gives `peer` its place: `serve` runs until it ends, or the client has let a turn go by.
    pub fn open<F>(&mut self, place: OwnedSemaphorePermit, peer: Arc<str>, serve: impl FnOnce(Turns) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let turns = Turns::new();
        let (serving, passing, named) = (serve(turns.clone()), turns.clone(), Arc::clone(&peer));
        let complaint = Arc::clone(&self.complaint);
        let task = tokio::spawn(async move {
            let _place = place;
            tokio::select! {
                () = serving => {}
                missed = passing.missed() => complaint.make(&named, missed, &format!("within {LIMIT:?}")),
            }
        });
        self.open.push(Open { peer, turns, task: task.abort_handle() });
    }
}

/// Tells of clients that had to go, one at once and then one in ten minutes, so that a scraper that is always slow does not fill the log.
struct Complaint {
    socket: &'static str,
    said: Mutex<Said>,
}

#[derive(Default)]
struct Said {
    last: Option<Instant>,
    /// How many went without a word since.
    untold: u64,
}

impl Complaint {
    /// `peer` was hung up on when it had not finished its `turn`, `when` says after what.
    fn make(&self, peer: &str, turn: Turn, when: &str) {
        let socket = self.socket;
        let Some(owed) = turn.owed() else {
            return tracing::debug!(client = peer, "hung up on an idle client of {socket}");
        };
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.last.is_some_and(|last| last.elapsed() < SAY_EVERY) {
            said.untold += 1;
            return;
        }
        said.last = Some(Instant::now());
        let others = mem::take(&mut said.untold);
        tracing::warn!(
            client = peer,
            others,
            "hung up on a client of {socket}, which {owed} {when}; calls are not affected. Others are counted, and told of after {} at the earliest",
            humantime::format_duration(SAY_EVERY)
        );
    }
}
