//! Integration tests: one binary, so that there is one link step; one module a subject.

mod architecture;
mod commands;
mod demo;
mod deploy;
mod explain;
mod hooks;
mod notify;
mod policies;
mod sim;
mod upgrade;
mod view;
mod wire;
