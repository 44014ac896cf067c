//! What goes wrong on a node, done on purpose: crihook dies, and its disk, its file or its hook servers fail it.
//!
//! All of it needs root, for file systems of the tests' own.

mod disk;
mod file;
mod kill;
mod kubelet;
mod life;
mod mount;
mod report;
mod servers;
mod stage;
mod witness;
