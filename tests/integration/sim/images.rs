//! Images: by their names, long and short, and by their ids.

use super::*;
use prost::Message as _;

async fn status(sim: &mut Sim, name: &str) -> Option<Image> {
    let request = ImageStatusRequest { image: Some(spec(name)), verbose: true };
    sim.images.image_status(request).await.unwrap().into_inner().image
}

#[tokio::test]
async fn an_image_is_pulled_found_by_any_of_its_names_and_removed() {
    let mut sim = Sim::start();
    assert_eq!(status(&mut sim, "busybox").await, None, "absent is no error");
    let id = sim.pull("busybox").await;
    assert_eq!(sim.pull("docker.io/library/busybox:latest").await, id, "the same image");
    let image = status(&mut sim, "busybox").await.unwrap();
    for name in [id.as_str(), &id["sha256:".len()..][..12], &image.repo_tags[0], &image.repo_digests[0]] {
        assert_eq!(status(&mut sim, name).await.map(|image| image.id).as_ref(), Some(&id), "{name}");
    }
    assert_eq!(status(&mut sim, "busybox:1.0").await, None, "another tag");

    sim.pull("registry.example:5000/team/app:2").await;
    let all = sim.images.list_images(ListImagesRequest::default()).await.unwrap().into_inner().images;
    assert_eq!(all.len(), 2);
    let filter = Some(ImageFilter { image: Some(spec("busybox")) });
    let one = sim.images.list_images(ListImagesRequest { filter }).await.unwrap().into_inner().images;
    assert_eq!(one, [image]);
    let usage = sim.images.image_fs_info(ImageFsInfoRequest {}).await.unwrap().into_inner().image_filesystems;
    assert_eq!(usage[0].used_bytes.unwrap().value, all.iter().map(|image| image.size).sum::<u64>());

    for _ in 0..2 {
        sim.images.remove_image(RemoveImageRequest { image: Some(spec(&id)) }).await.unwrap();
        assert_eq!(status(&mut sim, "busybox").await, None);
    }
}

#[tokio::test]
async fn a_registry_that_does_not_exist_fails_the_pull() {
    let mut sim = Sim::start();
    let request = PullImageRequest { image: Some(spec("registry.invalid/app:1")), sandbox_config: None };
    let refused = sim.images.pull_image(request).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::NotFound);
    assert!(refused.message().contains("registry.invalid/app:1"), "{refused}");
}

#[tokio::test]
async fn a_list_of_eight_mebibytes_can_be_asked_for() {
    let mut sim = Sim::with(&Options::default().image_bytes(8 << 20));
    let list = sim.images.list_images(ListImagesRequest::default()).await.unwrap().into_inner();
    let size = list.encoded_len();
    assert!((8 << 20..9 << 20).contains(&size), "{size}");
}
