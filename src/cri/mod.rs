//! CRI's vocabulary: the methods and codes that calls are labelled with, gRPC's framing, and the messages of the view.

mod code;
mod frame;
mod method;
mod patch;
mod timeout;

pub use code::Code;
pub use frame::{Meter, Unreadable, framed, only_message};
pub use method::{Method, OTHER, Service};
pub use patch::patched;
pub use timeout::deadline_of;

/// The view of CRI v1 that `proto/cri.proto` writes down, generated at build time.
#[allow(missing_docs, clippy::pedantic, reason = "generated code")]
pub mod v1 {
    tonic::include_proto!("runtime.v1");
}

impl v1::ImageSpec {
    /// The name the user wrote if it is there: the kubelet asks for an image by its id, which it has from pulling it.
    #[must_use]
    pub fn name_for_people(&self) -> &str {
        if self.user_specified_image.is_empty() { &self.image } else { &self.user_specified_image }
    }
}
