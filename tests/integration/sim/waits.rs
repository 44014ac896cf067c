//! What takes time: grace periods, commands, delays, the end of serving.

use std::time::Instant;

use super::*;
use crihook::sim::{EXIT_AFTER, EXIT_CODE, STOP_TAKES};
use tonic::Code;

#[tokio::test]
async fn a_container_that_exits_within_its_grace_is_not_killed() {
    let mut sim = Sim::start();
    let (_, main) = sim.pod(&[(STOP_TAKES, "100ms"), (EXIT_CODE, "3")]).await;
    let begun = Instant::now();
    sim.stop(&main, 30).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(100), "it took {:?}", begun.elapsed());
    assert!(begun.elapsed() < LONG, "it waited for the whole grace");
    assert_eq!(sim.status(&main).await.unwrap().exit_code, 3);
}

#[tokio::test]
async fn a_container_that_outlives_its_grace_is_killed() {
    let mut sim = Sim::start();
    let (_, main) = sim.pod(&[(STOP_TAKES, "1h")]).await;
    let begun = Instant::now();
    sim.stop(&main, 1).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(1) && begun.elapsed() < LONG, "it took {:?}", begun.elapsed());
    assert_eq!(sim.status(&main).await.unwrap().exit_code, 137);
}

#[tokio::test]
async fn without_grace_a_container_is_killed_at_once_even_while_another_stop_waits() {
    let mut sim = Sim::start();
    let (_, main) = sim.pod(&[(STOP_TAKES, "1h")]).await;
    let (mut patient, id) = (sim.pods.clone(), main.clone());
    let waiting =
        tokio::spawn(
            async move { patient.stop_container(StopContainerRequest { container_id: id, timeout: 3600 }).await },
        );
    until(|| sim.runtime.calls().contains_key("StopContainer")).await;
    let begun = Instant::now();
    sim.stop(&main, 0).await.unwrap();
    waiting.await.unwrap().expect("the first stop sees that the container has gone");
    assert!(begun.elapsed() < LONG);
    assert_eq!(sim.status(&main).await.unwrap().exit_code, 137);
}

#[tokio::test]
async fn a_container_can_end_by_itself() {
    let mut sim = Sim::start();
    let (_, main) = sim.pod(&[(EXIT_AFTER, "20ms"), (EXIT_CODE, "9")]).await;
    let deadline = Instant::now() + LONG;
    while sim.status(&main).await.unwrap().state() == ContainerState::ContainerRunning {
        assert!(Instant::now() < deadline, "it never ended");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let status = sim.status(&main).await.unwrap();
    assert_eq!((status.exit_code, status.reason.as_str()), (9, "Error"));
}

#[tokio::test]
async fn commands_give_their_output_their_code_or_an_error() {
    let mut sim = Sim::start();
    let (_, main) = sim.pod(&[]).await;
    assert_eq!(sim.exec(&main, &["/bin/false"], 0).await.unwrap().exit_code, 1);
    assert_eq!(sim.exec(&main, &["sh", "-c", "exit 42"], 0).await.unwrap().exit_code, 42);
    assert_eq!(sim.exec(&main, &["sleep", "0.05"], 10).await.unwrap().exit_code, 0);
    let unknown = sim.exec(&main, &["/opt/no-such"], 0).await.unwrap_err();
    assert_eq!(unknown.code(), Code::Unknown);
    assert!(unknown.message().contains("/opt/no-such"), "{unknown}");
    let late = sim.exec(&main, &["sleep", "3600"], 1).await.unwrap_err();
    assert_eq!(late.code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn a_command_dies_with_its_container() {
    let mut sim = Sim::start();
    let (_, main) = sim.pod(&[]).await;
    let (mut client, id) = (sim.pods.clone(), main.clone());
    let sleeping = tokio::spawn(async move {
        let cmd = vec!["sleep".into(), "3600".into()];
        client.exec_sync(ExecSyncRequest { container_id: id, cmd, timeout: 0 }).await
    });
    until(|| sim.runtime.calls().contains_key("ExecSync")).await;
    sim.stop(&main, 0).await.unwrap();
    let ended = tokio::time::timeout(LONG, sleeping).await.expect("it ended").unwrap();
    // Killed in its sleep; or it came just too late to begin.
    assert!(ended.as_ref().map_or_else(|e| e.code() == Code::Unknown, |r| r.get_ref().exit_code == 137), "{ended:?}");
}

#[tokio::test]
async fn delays_are_per_method() {
    let delay = Duration::from_millis(200);
    let mut sim = Sim::with(&Options::default().delay("PullImage", delay).unwrap());
    let begun = Instant::now();
    sim.pull("busybox").await;
    assert!(begun.elapsed() >= delay, "it took {:?}", begun.elapsed());
    assert!(Options::default().delay("Pull", delay).is_err(), "a delay that never happens");
    assert!(Options::default().delay("other", delay).is_err());
}

#[tokio::test]
async fn serving_ends_when_told_after_the_calls_in_flight_though_events_are_watched() {
    let mut sim = Sim::with(&Options::default().delay("Version", Duration::from_millis(300)).unwrap());
    let mut events = sim.pods.get_container_events(GetEventsRequest {}).await.unwrap().into_inner();
    let mut client = sim.pods.clone();
    let call = tokio::spawn(async move { client.version(VersionRequest::default()).await });
    until(|| sim.runtime.calls().contains_key("Version")).await;
    sim.shutdown.send(()).unwrap();
    call.await.unwrap().expect("the call in flight is answered");
    assert_eq!(events.message().await.unwrap(), None, "the stream ends well");
    tokio::time::timeout(LONG, sim.serving).await.expect("serving ends").unwrap().unwrap();
}

async fn until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + LONG;
    while !condition() {
        assert!(Instant::now() < deadline, "it never came to that");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
