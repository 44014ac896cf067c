//! Images: their names made whole as container people write them, their ids derived from the names.

use std::collections::{BTreeMap, HashMap};

use prost::Message as _;
use tonic::Status;

use super::state::hex_id;
use crate::cri::v1::{Image, ImageSpec, ListImagesResponse};

/// Names under this domain, which cannot exist (RFC 2606), fail to be pulled.
const ABSENT_REGISTRY: &str = ".invalid/";
/// Roughly the size in bytes of one image of a filled store, as encoded: large, so that a benchmark's list costs this
/// runtime little more than copying it.
const FILLER: usize = 16 << 10;

#[derive(Debug, Default)]
pub(super) struct Images {
    by_id: BTreeMap<String, Image>,
}

impl Images {
    /// Holds as many images as make a list of about `bytes`.
    pub fn filled(bytes: usize) -> Self {
        let mut images = Self::default();
        let mut size = 0;
        for n in 0.. {
            if size >= bytes {
                break;
            }
            let mut image = make(&format!("registry.example/fleet/service-{n:05}:v1"));
            let note = "x".repeat(FILLER.saturating_sub(image.encoded_len()));
            let annotations = HashMap::from([("org.opencontainers.image.description".to_owned(), note)]);
            image.spec = Some(ImageSpec { annotations, ..ImageSpec::default() });
            size += ListImagesResponse { images: vec![image.clone()] }.encoded_len();
            images.by_id.insert(image.id.clone(), image);
        }
        images
    }

    /// By id, whole or a prefix of it, with or without its `sha256:`; else by tag or digest.
    pub fn find(&self, name: &str) -> Option<&Image> {
        if name.is_empty() {
            return None;
        }
        let digits = name.strip_prefix("sha256:").unwrap_or(name);
        if digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            let id = format!("sha256:{digits}");
            if let Some((_, image)) = self.by_id.range(id.clone()..).next().filter(|(key, _)| key.starts_with(&id)) {
                return Some(image);
            }
        }
        let whole = normalize(name);
        self.by_id.values().find(|image| image.repo_tags.contains(&whole) || image.repo_digests.contains(&whole))
    }

    /// The id of the image, which is on the node from now on.
    pub fn pull(&mut self, spec: Option<ImageSpec>) -> Result<String, Status> {
        let spec = spec.filter(|spec| !spec.image.is_empty());
        let spec = spec.ok_or_else(|| Status::invalid_argument("no image was named"))?;
        if let Some(present) = self.find(&spec.image) {
            return Ok(present.id.clone());
        }
        let name = normalize(&spec.image);
        if name.contains(ABSENT_REGISTRY) {
            return Err(Status::not_found(format!("cannot pull {name:?}: its registry does not exist: not found")));
        }
        let mut image = make(&name);
        image.spec = Some(ImageSpec { annotations: spec.annotations, ..ImageSpec::default() });
        let id = image.id.clone();
        self.by_id.insert(id.clone(), image);
        Ok(id)
    }

    /// One that is gone is gone.
    pub fn remove(&mut self, name: &str) {
        if let Some(id) = self.find(name).map(|image| image.id.clone()) {
            self.by_id.remove(&id);
        }
    }

    /// All of them for an empty name.
    pub fn list(&self, name: &str) -> Vec<Image> {
        if name.is_empty() {
            return self.by_id.values().cloned().collect();
        }
        self.find(name).cloned().into_iter().collect()
    }

    /// Bytes on the disk, and how many images they are.
    pub fn usage(&self) -> (u64, u64) {
        (self.by_id.values().map(|image| image.size).sum(), self.by_id.len() as u64)
    }
}

/// An image with this whole name.
fn make(name: &str) -> Image {
    // FNV-1a, so that a name has the same id in every build.
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    let (repository, digest) = name.split_once('@').map_or((name, None), |(left, right)| (left, Some(right)));
    let repository = without_tag(repository);
    let tags = if digest.is_some() { Vec::new() } else { vec![name.to_owned()] };
    let digest = digest.map_or_else(|| format!("sha256:{}", hex_id(!hash)), str::to_owned);
    Image {
        id: format!("sha256:{}", hex_id(hash)),
        repo_tags: tags,
        repo_digests: vec![format!("{repository}@{digest}")],
        // From 1 MiB to 129 MiB.
        size: (1 << 20) + hash % (128 << 20),
        ..Image::default()
    }
}

/// The name with its registry, and with `latest` where there is neither tag nor digest.
fn normalize(name: &str) -> String {
    let registry = name.split_once('/').map(|(first, _)| first);
    let mut whole = match registry {
        Some(first) if first.contains(['.', ':']) || first == "localhost" => name.to_owned(),
        Some(_) => format!("docker.io/{name}"),
        None => format!("docker.io/library/{name}"),
    };
    if !whole.contains('@') && without_tag(&whole) == whole {
        whole.push_str(":latest");
    }
    whole
}

/// A colon before the last slash belongs to the registry's port.
fn without_tag(name: &str) -> &str {
    match name.rsplit_once(':') {
        Some((left, right)) if !right.contains('/') => left,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_made_whole_as_container_people_write_them() {
        assert_eq!(normalize("busybox"), "docker.io/library/busybox:latest");
        assert_eq!(normalize("team/app:1"), "docker.io/team/app:1");
        assert_eq!(normalize("localhost/app"), "localhost/app:latest");
        assert_eq!(normalize("registry.example:5000/app"), "registry.example:5000/app:latest");
        assert_eq!(normalize("registry.example/app@sha256:00"), "registry.example/app@sha256:00");
    }

    #[test]
    fn a_filled_store_lists_as_many_bytes_as_were_asked() {
        let images = Images::filled(1 << 20).list("");
        let size = ListImagesResponse { images }.encoded_len();
        assert!((1 << 20..(1 << 20) + FILLER * 2).contains(&size), "{size}");
    }
}
