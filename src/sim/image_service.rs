//! `runtime.v1.ImageService` over the state.

use std::collections::HashMap;

use serde_json::json;
use tonic::{Request, Response, Status};

use super::runtime::Runtime;
use super::state::now;
use super::stats::filesystem;
use crate::cri::v1::image_service_server::ImageService;
use crate::cri::v1::{
    ImageFsInfoRequest, ImageFsInfoResponse, ImageSpec, ImageStatusRequest, ImageStatusResponse, ListImagesRequest,
    ListImagesResponse, PullImageRequest, PullImageResponse, RemoveImageRequest, RemoveImageResponse,
};

pub(super) struct Images {
    pub runtime: Runtime,
}

fn name(spec: Option<ImageSpec>) -> String {
    spec.unwrap_or_default().image
}

#[tonic::async_trait]
impl ImageService for Images {
    async fn list_images(&self, request: Request<ListImagesRequest>) -> Result<Response<ListImagesResponse>, Status> {
        let wanted = name(request.into_inner().filter.unwrap_or_default().image);
        Ok(Response::new(ListImagesResponse { images: self.runtime.state().images.list(&wanted) }))
    }

    async fn image_status(
        &self,
        request: Request<ImageStatusRequest>,
    ) -> Result<Response<ImageStatusResponse>, Status> {
        let ImageStatusRequest { image, verbose } = request.into_inner();
        let image = self.runtime.state().images.find(&name(image)).cloned();
        let mut info = HashMap::new();
        if let Some(image) = image.as_ref().filter(|_| verbose) {
            let spec =
                json!({"chainID": image.id, "imageSpec": {"architecture": std::env::consts::ARCH, "os": "linux"}});
            info.insert("info".to_owned(), spec.to_string());
        }
        Ok(Response::new(ImageStatusResponse { image, info }))
    }

    async fn pull_image(&self, request: Request<PullImageRequest>) -> Result<Response<PullImageResponse>, Status> {
        let image_ref = self.runtime.state().images.pull(request.into_inner().image)?;
        Ok(Response::new(PullImageResponse { image_ref }))
    }

    async fn remove_image(
        &self,
        request: Request<RemoveImageRequest>,
    ) -> Result<Response<RemoveImageResponse>, Status> {
        self.runtime.state().images.remove(&name(request.into_inner().image));
        Ok(Response::new(RemoveImageResponse {}))
    }

    async fn image_fs_info(&self, _: Request<ImageFsInfoRequest>) -> Result<Response<ImageFsInfoResponse>, Status> {
        let (bytes, images) = self.runtime.state().images.usage();
        Ok(Response::new(ImageFsInfoResponse {
            image_filesystems: vec![filesystem(now(), "images", bytes, images * 500)],
            container_filesystems: Vec::new(),
        }))
    }
}
