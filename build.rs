//! Compiles the CRI view and the protocol of hook servers with protox, so that no system protoc is needed.

use std::path::PathBuf;

use prost::Message;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(["proto/cri.proto"], ["proto"])?;
    // The descriptors are for the test that compares the view with the list of CRI's facts.
    std::fs::write(PathBuf::from(std::env::var("OUT_DIR")?).join("cri.binpb"), files.encode_to_vec())?;
    tonic_prost_build::configure().compile_fds(files)?;
    tonic_prost_build::configure().compile_fds(protox::compile(["proto/hook.proto"], ["proto"])?)?;
    Ok(())
}
