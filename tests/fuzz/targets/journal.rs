//! What is read back from the journal: any bytes are either a record or none, and a record says the same when it is written again.
#![no_main]

use std::fmt::Debug;

use crihook::clock::{Clock, Moment};
use crihook::lifecycle::{Container, Pod};
use libfuzzer_sys::fuzz_target;
use serde_json::{from_slice, to_vec};

// The first byte says which record it is.
fuzz_target!(|data: &[u8]| {
    let Some((kind, bytes)) = data.split_first() else { return };
    match kind % 3 {
        0 => drop(same::<Pod>(bytes)),
        1 => {
            let Some(container) = same::<Container>(bytes) else { return };
            let _ = (container.port("http"), container.grace());
        }
        _ => {
            let Some(moment) = same::<Moment>(bytes) else { return };
            let _ = Clock::system().age(&moment);
        }
    }
});

fn same<T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) -> Option<T> {
    let record: T = from_slice(bytes).ok()?;
    let again = from_slice(&to_vec(&record).expect("a record can be written")).expect("and read");
    assert_eq!(record, again);
    Some(record)
}
