//! When hooks run: order, budgets, retries, bounds.
#![allow(missing_docs, unused, clippy::pedantic)]
use super::policy::{Hook, PolicySet};
use crate::lifecycle::{Container, Event, Pod, Point};
use std::sync::Arc;
use tokio::time::Instant;
pub struct Engine;
pub struct Active;
pub struct Bound {
    pub hook: Arc<Hook>,
}
pub struct Limits {
    pub deadline: Option<Instant>,
    pub repeat: Repeat,
}
pub enum Repeat {
    Once,
    Each,
}
pub struct Fired {
    pub ran: bool,
    pub verdict: Result<(), Rejection>,
}
impl Default for Fired {
    fn default() -> Self {
        Self { ran: false, verdict: Ok(()) }
    }
}
#[derive(Clone, Debug)]
pub struct Rejection;
impl std::fmt::Display for Rejection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Ok(())
    }
}
impl Engine {
    pub fn activate(&self, set: PolicySet) {}
    pub fn active(&self) -> Arc<Active> {
        Arc::new(Active)
    }
    pub async fn fire(self: &Arc<Self>, event: Event, hooks: Vec<Arc<Bound>>, limits: Limits) -> Fired {
        Fired::default()
    }
    pub fn abandon(&self, subject: &str, point: Point, reason: &str) {}
    pub fn unfinished(&self, subject: &str, hooks: &[Arc<Bound>], point: Point) -> bool {
        false
    }
    pub fn forget(&self, subject: &str) {}
}
impl Active {
    pub fn uses(&self, point: Point) -> bool {
        false
    }
    pub fn plan(&self, point: Point, pod: &Pod, container: Option<&Container>) -> Vec<Arc<Bound>> {
        vec![]
    }
}
