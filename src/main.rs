//! crihook.
fn main() {}
