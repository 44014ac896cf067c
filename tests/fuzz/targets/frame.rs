//! gRPC's framing: however a stream is cut, its messages are counted alike; what is read as a message is one.
#![no_main]

use std::time::{Duration, Instant};

use bytes::Bytes;
use crihook::cri::{Meter, Method, deadline_of, framed, only_message};
use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;

// The first byte says how long the pieces are.
fuzz_target!(|data: &[u8]| {
    let Some((&cut, stream)) = data.split_first() else { return };
    let pieces: Vec<&[u8]> = stream.chunks(usize::from(cut).max(1)).collect();
    assert_eq!(sizes(&pieces), sizes(&[stream]));

    let body = Bytes::copy_from_slice(stream);
    assert_eq!(only_message(&framed(stream)), Ok(body.clone()));
    if let Ok(message) = only_message(&body) {
        assert_eq!(framed(&message), body);
    }

    if let Ok(value) = HeaderValue::from_bytes(stream) {
        let (now, mut headers) = (Instant::now(), HeaderMap::new());
        headers.insert("grpc-timeout", value);
        // Eight digits of hours are the most that it can say.
        let longest = Duration::from_hours(99_999_999);
        assert!(deadline_of(&headers, now).is_none_or(|at| at - now <= longest));
    }
    if let Ok(path) = std::str::from_utf8(stream) {
        assert!(Method::from_path(path).index() < Method::COUNT);
    }
});

fn sizes(pieces: &[&[u8]]) -> Vec<u32> {
    let (mut meter, mut sizes) = (Meter::default(), Vec::new());
    for piece in pieces {
        meter.feed(piece, |size| sizes.push(size));
    }
    sizes
}
