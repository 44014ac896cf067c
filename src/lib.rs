//! crihook.
pub mod cri;
