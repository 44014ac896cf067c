//! What is read back from the journal: any bytes are either an event or none, and an event says the same when it is written again.
#![no_main]

use crihook::clock::Clock;
use crihook::lifecycle::Event;
use libfuzzer_sys::fuzz_target;
use serde_json::{from_slice, to_vec};

fuzz_target!(|data: &[u8]| {
    let Ok(event) = from_slice::<Event>(data) else { return };
    let again: Event = from_slice(&to_vec(&event).expect("an event can be written")).expect("and read");
    assert_eq!(event, again);
    // What the next process asks of it.
    let _ = (event.subject(), Clock::system().age(&event.at));
    if let Some(container) = &event.container {
        let _ = (container.port("http"), container.grace());
    }
});
