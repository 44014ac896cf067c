//! Integration tests: one binary, so that there is one link step; one module a subject.

mod architecture;
mod demo;
mod notify;
mod policies;
mod sim;
mod view;
mod wire;
