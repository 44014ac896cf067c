//! `kill -9` at any moment, again and again, under a steady stream of pods.
//!
//! A trial is a kill. `FAULTS_TRIALS` says how many there are, `FAULTS_SEED` repeats those of another run as far as the machine's own timing allows, and
//! `FAULTS_REPORT` names a file for the report (`tests/run --soak` sets them).

use std::cell::Cell;
use std::str::FromStr;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::time::sleep;

use super::kubelet::{HASTY, Kubelet};
use super::report::Report;
use super::stage::Stage;
use super::witness::Witness;

const TRIALS: usize = 30;
/// Kills on one node, with one journal.
const A_NODE: usize = 10;
/// Pods at any time.
const AT_ONCE: usize = 8;
/// The longest that crihook lives after it serves, in milliseconds; and after it was started, when it is killed before.
const LIFE: (u64, u64) = (350, 60);

fn setting<T: FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

#[tokio::test]
async fn whenever_crihook_is_killed_nothing_that_is_due_is_lost_and_nothing_is_new_twice() {
    let trials = setting("FAULTS_TRIALS").unwrap_or(TRIALS);
    let seed = setting("FAULTS_SEED").unwrap_or_else(|| fastrand::u64(..1 << 32));
    let began = Instant::now();
    let mut report = Report { seed, ..Report::default() };
    while report.trials < trials && report.is_clean() {
        let dice = fastrand::Rng::with_seed(seed.wrapping_add(report.nodes as u64));
        let kills = A_NODE.min(trials - report.trials);
        play(dice, kills, &mut report).await;
    }
    report.took = began.elapsed();
    println!("{report}");
    if let Ok(path) = std::env::var("FAULTS_REPORT") {
        std::fs::write(&path, report.to_string()).unwrap_or_else(|error| panic!("cannot write {path}: {error}"));
    }
    assert!(report.is_clean(), "again with FAULTS_SEED={seed}\n{report}");
    assert!(report.in_run > 0 && report.in_call > 0, "nothing was hit\n{report}");
}

/// A node from its first pod to its last, with so many kills.
async fn play(mut dice: fastrand::Rng, kills: usize, report: &mut Report) {
    let stage = Stage::open(dice.u64(..)).await;
    let witness = Witness::of(&stage).await;
    let (over, pods) = (Cell::new(false), Cell::new(0));
    let streams = (0..AT_ONCE).map(|_| {
        let mut kubelet = Kubelet { stage: &stage, witness: &witness, dice: dice.fork() };
        let (over, pods) = (&over, &pods);
        async move {
            while !over.get() {
                pods.set(pods.get() + 1);
                let hasty = if kubelet.dice.u8(..4) == 0 { HASTY } else { "" };
                kubelet.live(&format!("{hasty}pod-{}", pods.get())).await;
            }
        }
    });
    let streams: Vec<_> = streams.collect();
    let killing = async {
        for _ in 0..kills {
            // One in five is killed before it has begun to serve, more or less.
            let longest = if dice.u8(..5) == 0 {
                LIFE.1
            } else {
                stage.serves().await;
                LIFE.0
            };
            sleep(Duration::from_millis(dice.u64(..longest))).await;
            report.kill(stage.kill());
        }
        stage.serves().await;
        over.set(true);
    };
    tokio::join!(killing, join_all(streams));
    report.nodes += 1;
    report.pods += pods.get();
    witness.judge(&stage, report).await;
}
