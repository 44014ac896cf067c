//! HTTP/2 settings towards both sides, and why each differs from h2's default.

/// Enough that one stream is never slowed by the round trip, and little enough to hold for each that nobody reads.
const STREAM_WINDOW: u32 = 2 * 1024 * 1024;
/// The largest there is: streams that nobody reads must not starve the others, so only the windows of streams count.
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;
/// Runtimes put long messages into trailers, and above this size h2 cuts them silently. Now also h2's default; a promise should
/// not hang on that.
const HEADER_LIST: u32 = 16 * 1024 * 1024;
/// Streams that one side has reset and the other has not heard of yet. A kubelet that cancels many calls at once
/// must not have its connection ended for it.
const RESETS: usize = 16 * 1024;

/// What h2 may hold in DATA frames that are smaller than what holding one costs it, in bytes of that cost, over all streams of a
/// connection: about 130,000 frames of a byte each. A peer that has more than that unread loses its connection.
const SMALL_FRAMES: usize = 32 * 1024 * 1024;

macro_rules! common {
    ($builder:expr) => {{
        let mut builder = $builder;
        builder
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(HEADER_LIST)
            .max_concurrent_reset_streams(RESETS)
            .max_pending_accept_reset_streams(RESETS)
            // Late frames for streams that are gone are answered, not punished, for as long as the connection lives.
            .max_local_error_reset_streams(None)
            .data_frame_budget(SMALL_FRAMES);
        builder
    }};
}

/// Towards the kubelet. No limit on concurrent streams: 200 slow `StopContainer` must not hold up `Status`.
#[must_use]
pub fn server() -> h2::server::Builder {
    common!(h2::server::Builder::new())
}

/// Towards the runtime.
#[must_use]
pub fn client() -> h2::client::Builder {
    let mut builder = common!(h2::client::Builder::new());
    // No stream before the runtime's SETTINGS, as gRPC's own clients have it: what is sent earlier may be more than the
    // runtime's windows and limits allow, and not every server recovers from that.
    builder.initial_max_send_streams(0).enable_push(false);
    builder
}
