//! Whom a policy is for.

use crate::lifecycle::{Container, Pod};

/// A policy's `match`, compiled.
#[derive(Debug, Default)]
pub struct Selector {}

impl Selector {
    /// Whether all conditions hold; if not, the first that does not, in words for people.
    ///
    /// # Errors
    /// The condition that does not hold.
    pub fn check(&self, _pod: &Pod, _container: Option<&Container>) -> Result<(), String> {
        Ok(())
    }
}
