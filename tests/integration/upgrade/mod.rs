//! Upgrades as a node's operator sees them: the installed binary is replaced and `crihook upgrade` is told, while a kubelet goes on calling.
//!
//! The binary is a link in the test's own directory, to crihook or to something that crashes, hangs or is wrong.

mod kubelet;
mod stage;

mod death;
mod handed;
mod load;
mod refusals;
mod systemd;

use crate::wire::peer::{until, within};
use kubelet::Kubelet;
use stage::Stage;
