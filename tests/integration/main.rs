//! Integration tests: one binary, so that there is one link step; one module a subject.

mod demo;
mod sim;
mod view;
mod wire;
