//! Black-box tests of the wire: what passes through crihook arrives as it was sent, is measured, and survives bad input.
//!
//! The method is always the same: a script plays a client and a runtime against each other, first directly and then with crihook
//! between them, both ends are recorded, and the two records must be equal. Nothing is taken out of the records: crihook has
//! nothing hop by hop to add, since HTTP/2's own hop-by-hop matter (settings, windows, pings, stream ids, the split into frames)
//! is below what the records hold.
pub mod peer;

mod accounting;
mod bad_bytes;
mod bad_config;
mod bad_paths;
mod ending;
mod endpoints;
mod goaway;
mod latency;
mod limits;
mod lost;
mod memory;
mod metadata;
mod methods;
mod mixture;
mod readiness;
mod resets;
mod retry;
mod scrapers;
mod streams;
