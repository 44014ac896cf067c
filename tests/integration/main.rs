//! Integration tests.

mod view;
