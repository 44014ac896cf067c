//! Hook servers that speak gRPC: `crihook.v1.HookService`.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crihook::hooks::handler::v1::hook_service_server::{HookService, HookServiceServer};
use crihook::hooks::handler::v1::{HandleRequest, HandleResponse, Reject, handle_response::Verdict};
use futures_util::stream;
use tokio::net::UnixListener;
use tokio::task::JoinSet;
use tonic::{Code, Request, Response, Status};

use super::*;

type Script = dyn Fn(&HandleRequest) -> Result<HandleResponse, Status> + Send + Sync;

/// What a server was asked, with the deadline that came along, and what it says to it.
#[derive(Clone)]
struct Server {
    script: Arc<Script>,
    seen: Arc<Mutex<Vec<(HandleRequest, bool)>>>,
}

#[tonic::async_trait]
impl HookService for Server {
    async fn handle(&self, request: Request<HandleRequest>) -> Result<Response<HandleResponse>, Status> {
        let bounded = request.metadata().contains_key("grpc-timeout");
        let request = request.into_inner();
        let answer = (self.script)(&request);
        self.seen.lock().expect("no panic while it is held").push((request.clone(), bounded));
        if request.point == "PreRemoveContainer" {
            std::future::pending::<()>().await;
        }
        answer.map(Response::new)
    }
}

impl Server {
    fn start(
        path: &Path,
        script: impl Fn(&HandleRequest) -> Result<HandleResponse, Status> + Send + Sync + 'static,
    ) -> (Self, JoinSet<()>) {
        let listener = UnixListener::bind(path).expect("a socket");
        let server = Self { script: Arc::new(script), seen: Arc::default() };
        let service = HookServiceServer::new(server.clone());
        let incoming = stream::unfold(listener, async |listener| {
            let accepted = listener.accept().await.map(|(stream, _)| stream);
            Some((accepted, listener))
        });
        let mut task = JoinSet::new();
        task.spawn(async move {
            let answering =
                tonic::transport::Server::builder().add_service(service).serve_with_incoming(Box::pin(incoming));
            answering.await.expect("the server serves");
        });
        (server, task)
    }

    fn seen(&self) -> Vec<(HandleRequest, bool)> {
        self.seen.lock().expect("no panic while it is held").clone()
    }
}

fn rejection(reason: &str) -> HandleResponse {
    HandleResponse { verdict: Some(Verdict::Reject(Reject { reason: reason.into() })) }
}

fn grpc(place: &Place, name: &str, on: &str, more: &Value) -> Value {
    let mut hook = hook(name, on, more);
    hook["grpc"] = json!({"endpoint": format!("unix://{}", place.path("hooks.sock").display())});
    hook
}

#[tokio::test]
async fn a_server_is_told_of_the_event_and_may_reject_with_a_reason() {
    let place = Place::new();
    let (server, _task) = Server::start(&place.path("hooks.sock"), |asked| {
        let allowed = asked.pod.as_ref().is_some_and(|pod| pod.labels.get("app").is_some_and(|app| app == "good"));
        Ok(if allowed { HandleResponse::default() } else { rejection("no licence for this image") })
    });
    let more = json!({"failurePolicy": "Fail", "retries": {"attempts": 3, "backoff": "1ms"}});
    place.write("a.yaml", &policy("admission", &[grpc(&place, "guard", "PreCreateContainer", &more)]));
    let node = place.start().await;
    node.created("good", &[]).await;
    let bad = pod("bad");
    let sandbox = node.cri.run_pod(&bad).await.expect("a sandbox");
    let status = node.cri.create(&sandbox, &container("main", &[]), &bad).await.expect_err("rejected");
    assert_eq!(status.code(), Code::FailedPrecondition);
    let told = status.message();
    assert!(
        told.starts_with("crihook: ") && tells(told, &["`admission`", "`guard`", "no licence for this image"]),
        "{told}"
    );
    assert_eq!(node.heard("CreateContainer").len(), 1, "the runtime never hears of the other");
    let seen = server.seen();
    assert_eq!(seen.len(), 2, "who has said no is not asked again");
    let (asked, bounded) = &seen[0];
    assert!(*bounded, "each call carries its deadline");
    assert_eq!(
        (asked.point.as_str(), asked.policy.as_str(), asked.hook.as_str()),
        ("PreCreateContainer", "admission", "guard")
    );
    assert_eq!((asked.attempt, asked.event_id.is_empty(), asked.time.is_some()), (1, false, true));
    let (pod, container) = (asked.pod.clone().unwrap_or_default(), asked.container.clone().unwrap_or_default());
    assert_eq!((pod.namespace.as_str(), pod.name.as_str()), ("payments", "good"));
    assert_eq!((container.name.as_str(), container.image.as_str()), ("main", cri::IMAGE));
}

#[tokio::test]
async fn a_failing_server_is_asked_again_and_a_silent_one_is_left() {
    let place = Place::new();
    let (server, _task) = Server::start(&place.path("hooks.sock"), |asked| match asked.attempt {
        1 => Err(Status::unavailable("starting")),
        _ => Ok(HandleResponse::default()),
    });
    let hooks = [
        grpc(&place, "announce", "PostStart", &json!({"retries": {"attempts": 5, "backoff": "1ms"}})),
        grpc(&place, "silent", "PreRemoveContainer", &json!({"timeout": "300ms"})),
    ];
    place.write("a.yaml", &policy("watch-web", &hooks));
    let node = place.start().await;
    let web = node.running("web", &[]).await;
    assert_eq!(node.outcome("announce").await["outcome"], "succeeded");
    let seen = server.seen();
    assert_eq!(seen.iter().map(|(asked, _)| asked.attempt).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(seen[0].0.event_id, seen[1].0.event_id);
    node.cri.stop(&web.id, 5).await.expect("stopped");
    let begun = std::time::Instant::now();
    node.cri.remove(&web.id).await.expect("removed");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert_eq!(node.outcome("silent").await["outcome"], "timed_out");
}
