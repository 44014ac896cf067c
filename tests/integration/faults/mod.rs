//! What goes wrong on a node, done on purpose: crihook dies, and its disk, its file or its hook servers fail it.

mod kill;
mod kubelet;
mod report;
mod stage;
mod witness;
