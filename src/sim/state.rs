//! The state of the embedded runtime: what exists, and what has to be unique or found.
//!
//! Everything here is synchronous and runs under one lock ([`super::Runtime`]), so each call is seen whole or not at
//! all, and events leave in the order of the changes that they tell of. What happens to sandboxes, containers and
//! images is in the files of those names, as further methods of [`State`].

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::broadcast;
use tonic::Status;

use super::container::Container;
use super::image::Images;
use super::sandbox::Sandbox;
use crate::cri::v1::{ContainerEventResponse, ContainerEventType};

/// Events that a subscriber may be behind; older ones are dropped for it, as containerd drops them when its queue is full.
const EVENT_BACKLOG: usize = 1024;

pub(super) struct State {
    pub sandboxes: BTreeMap<String, Sandbox>,
    pub containers: BTreeMap<String, Container>,
    pub images: Images,
    /// Names that are taken, and by which id.
    names: HashMap<String, String>,
    made: u64,
    pub network: Ipv4Addr,
    pub events: broadcast::Sender<ContainerEventResponse>,
}

impl State {
    pub fn new(images: Images) -> Self {
        Self {
            sandboxes: BTreeMap::new(),
            containers: BTreeMap::new(),
            images,
            names: HashMap::new(),
            made: 0,
            network: Ipv4Addr::new(10, 88, 0, 0),
            events: broadcast::Sender::new(EVENT_BACKLOG),
        }
    }

    /// An id that was never given before, as long and as evenly spread as a real one.
    pub fn next_id(&mut self) -> String {
        self.made += 1;
        hex_id(self.made)
    }

    /// How many ids were given: the source of addresses and process ids.
    pub fn made(&self) -> u64 {
        self.made
    }

    /// Takes `name` for `id` until [`State::release`].
    pub fn reserve(&mut self, name: String, id: &str) -> Result<(), Status> {
        if let Some(owner) = self.names.get(&name) {
            return Err(Status::unknown(format!("the name {name:?} is already reserved, for {owner:?}")));
        }
        self.names.insert(name, id.to_owned());
        Ok(())
    }

    /// Frees the names that `id` has taken.
    pub fn release(&mut self, id: &str) {
        self.names.retain(|_, owner| owner != id);
    }

    /// Tells the subscribers. `id` is a container's, or the sandbox's own.
    pub fn announce(&mut self, id: &str, sandbox_id: &str, what: ContainerEventType) {
        let event = ContainerEventResponse {
            container_id: id.to_owned(),
            container_event_type: what.into(),
            created_at: now(),
            pod_sandbox_status: self.sandboxes.get(sandbox_id).map(Sandbox::status),
            containers_statuses: self.statuses_in(sandbox_id),
        };
        // It fails when nobody listens, which is no failure.
        let _ = self.events.send(event);
    }
}

/// The one whose id is `id` or begins with it, as containerd finds it.
pub(super) fn find<'a, T>(all: &'a BTreeMap<String, T>, kind: &str, id: &str) -> Result<&'a T, Status> {
    if id.is_empty() {
        return Err(Status::invalid_argument(format!("no {kind} id was given")));
    }
    let mut candidates = all.range(id.to_owned()..).take_while(|(key, _)| key.starts_with(id));
    match (candidates.next(), candidates.next()) {
        (None, _) => Err(Status::not_found(format!("no {kind} has the id {id:?}: not found"))),
        (Some((key, found)), next) if key == id || next.is_none() => Ok(found),
        _ => Err(Status::unknown(format!("more than one {kind} id begins with {id:?}"))),
    }
}

/// Whether an object with these labels is selected. An empty selector selects all.
pub(super) fn selects(selector: &HashMap<String, String>, labels: &HashMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// Nanoseconds since 1970, as CRI counts.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// 64 hexadecimal digits that differ in the first few already: splitmix64 over four neighbouring seeds.
pub(super) fn hex_id(seed: u64) -> String {
    let [a, b, c, d] = [0, 1, 2, 3].map(|word| mix(seed.wrapping_mul(4).wrapping_add(word)));
    format!("{a:016x}{b:016x}{c:016x}{d:016x}")
}

/// The output function of splitmix64: a bijection, so different seeds give different values.
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
