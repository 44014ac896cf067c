//! The state directory's file system fails. Pods never notice; people are told; and all that was run is in the history once it is well again.

use super::life::{Life, hooks};
use super::mount::Mount;
use crate::hooks::node::Place;
use crate::hooks::server::Reply;

#[tokio::test]
async fn a_full_disk_stops_no_pod_and_what_was_run_meanwhile_is_kept_once_there_is_room() {
    let place = Place::new();
    let disk = Mount::tmpfs(&place.path("state"), "1m");
    let server = place.answering("hook", Reply::Ok);
    place.write("a.yaml", &hooks(&server));
    let mut life = Life::begin(&place, &server).await;
    life.pod("before").await;
    life.is_well().await;

    let ballast = disk.fill("ballast");
    life.pod("full").await;
    life.is_degraded(&["no room is left for", "journal.db", "free some"]).await;
    life.pod("still-full").await;

    std::fs::remove_file(ballast).expect("it was there");
    life.is_well().await;
    life.pod("after").await;
    life.is_remembered(&["before", "full", "still-full", "after"]).await;
    life.node.restart().await;
    life.is_remembered(&["before", "full", "still-full", "after"]).await;
    life.is_well().await;
}

#[tokio::test]
async fn a_disk_that_is_full_at_the_start_is_used_once_there_is_room() {
    let place = Place::new();
    let disk = Mount::tmpfs(&place.path("state"), "1m");
    let ballast = disk.fill("ballast");
    let server = place.answering("hook", Reply::Ok);
    place.write("a.yaml", &hooks(&server));
    let mut life = Life::begin(&place, &server).await;
    life.pod("full").await;
    life.is_degraded(&["no room is left for", "journal.db", "free some"]).await;
    std::fs::remove_file(ballast).expect("it was there");
    life.is_well().await;
    life.node.restart().await;
    life.is_remembered(&["full"]).await;
}

#[tokio::test]
async fn a_disk_that_is_read_only_at_the_start_is_used_once_it_can_be_written() {
    let place = Place::new();
    let disk = Mount::tmpfs(&place.path("state"), "16m");
    let server = place.answering("hook", Reply::Ok);
    place.write("a.yaml", &hooks(&server));
    let mut life = Life::begin(&place, &server).await;
    life.pod("before").await;
    life.node.crihook.kill();
    disk.remount("ro");
    life.node.restart().await;
    life.pod("read-only").await;
    life.is_degraded(&["cannot be written", "make the file system"]).await;
    life.is_remembered(&["before", "read-only"]).await;

    disk.remount("rw");
    life.is_well().await;
    life.node.restart().await;
    life.is_remembered(&["before", "read-only"]).await;
}

#[tokio::test]
async fn a_disk_that_turns_read_only_is_followed_by_the_one_that_takes_its_place() {
    let place = Place::new();
    let disk = Mount::ext4(&place.path("state"), &place.path("disk"));
    let server = place.answering("hook", Reply::Ok);
    place.write("a.yaml", &hooks(&server));
    let mut life = Life::begin(&place, &server).await;
    life.pod("before").await;
    life.is_remembered(&["before"]).await;

    disk.fail();
    life.pod("read-only").await;
    life.is_degraded(&["journal.db", "cannot be written"]).await;

    drop(disk);
    let _disk = Mount::ext4(&place.path("state"), &place.path("another-disk"));
    life.is_well().await;
    life.pod("after").await;
    let state = place.path("state");
    assert_eq!(std::fs::read_dir(state.join("owners")).expect("a directory").count(), 1, "it is there as itself");
    let other = Place::new();
    let stranger = Life::of(
        other
            .start_with(|flags| {
                flags.set("--state-dir", state);
            })
            .await,
        &server,
    );
    stranger.is_degraded(&["another crihook"]).await;
    drop(stranger);
    life.node.restart().await;
    life.is_remembered(&["read-only", "after"]).await;
}

#[tokio::test]
async fn a_disk_that_hangs_keeps_no_call_waiting_for_long() {
    let place = Place::new();
    let disk = Mount::ext4(&place.path("state"), &place.path("disk"));
    let server = place.answering("hook", Reply::Ok);
    place.write("a.yaml", &hooks(&server));
    let mut life = Life::begin(&place, &server).await;
    life.pod("before").await;

    let frozen = disk.freeze();
    life.pod("hanging").await;
    life.is_degraded(&["takes longer than", "journal.db"]).await;
    let waited = life.node.metrics().await.sum("crihook_cri_hook_wait_seconds_sum", &[]);
    assert!(waited > 0.9, "who looks where the time went sees hooks, and not crihook: {waited}");
    life.pod("still-hanging").await;

    drop(frozen);
    life.is_well().await;
    life.node.restart().await;
    life.is_remembered(&["before", "hanging", "still-hanging"]).await;
}
