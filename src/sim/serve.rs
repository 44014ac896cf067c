//! Both CRI services on one unix socket.

use futures_util::stream;
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use super::MAX_MESSAGE;
use super::image_service::Images;
use super::intake::IntakeLayer;
use super::runtime::Runtime;
use super::runtime_service::Pods;
use crate::cri::v1::image_service_server::ImageServiceServer;
use crate::cri::v1::runtime_service_server::RuntimeServiceServer;

/// A status message of 100 KiB, and more, fits into trailers.
const MAX_HEADERS: u32 = 16 << 20;

/// Answers on `listener` until `shutdown` is done and the calls that were in flight then have ended; streams of events
/// end at once.
///
/// # Errors
/// Fails if the listening socket does.
pub async fn serve(
    runtime: Runtime,
    listener: UnixListener,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), tonic::transport::Error> {
    let closing = CancellationToken::new();
    let layer = IntakeLayer(runtime.intake());
    let pods = RuntimeServiceServer::new(Pods { runtime: runtime.clone(), closing: closing.clone() })
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE);
    let images = ImageServiceServer::new(Images { runtime })
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE);
    let incoming = stream::unfold(listener, async |listener| {
        let accepted = listener.accept().await.map(|(stream, _)| stream);
        Some((accepted, listener))
    });
    Server::builder()
        .http2_max_header_list_size(MAX_HEADERS)
        .layer(layer)
        .add_service(pods)
        .add_service(images)
        .serve_with_incoming_shutdown(Box::pin(incoming), async {
            shutdown.await;
            closing.cancel();
        })
        .await
}
