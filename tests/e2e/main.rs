//! End-to-end tests: crihook in front of a real containerd, of both series that are in use, without mocks.
//!
//! They need root and Debian's packages; `tests/run e2e` sees to the latter. What is missing makes them fail, never skip.
//! Every test has a node of its own ([`node::Node`]) and checks that nothing of it is left when it goes.

mod client;
mod http;
mod image;
mod leftovers;
mod node;
mod pod;
mod proxy;
mod wait;

mod cleanup;
mod deploy;
mod errors;
mod events;
mod exec_url;
mod hooks;
mod pod_life;
mod restart;
mod scrape;
mod socket;
mod upgrade;
