//! A client that resends silently never has a call done twice, whatever the runtime does to its connections.
//!
//! gRPC's rule of transparent retry (gRFC A6): a call is sent again without anybody's knowledge when the stream was refused
//! (`REFUSED_STREAM`) or lies above a GOAWAY's last stream. So either of them, said of a call that the runtime did do, would do it twice.
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use super::peer::frames::{self, Frame, Wire};
use super::peer::grpc::{self, message};
use super::peer::record::{Answer, End};
use super::peer::{Client, Stand, same, upstream, within};

const CALLS: u32 = 400;
const AT_ONCE: u32 = 8;

/// How often the runtime did each call.
type Done = Arc<Mutex<BTreeMap<u32, usize>>>;

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }
}

/// One connection of a runtime that does calls and breaks at moments that the dice choose.
async fn erratic(io: UnixStream, mut dice: Dice, done: Done) {
    let mut wire = Wire::accept(io, &[]).await;
    let mut last = 0;
    // The id of a call is the whole of its message.
    let mut bodies: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
    while let Some(frame) = wire.next_call().await {
        if frame.kind == frames::DATA {
            bodies.entry(frame.stream).or_default().extend_from_slice(&frame.payload);
        }
        if !frame.ends() {
            continue;
        }
        let stream = frame.stream;
        let Some(id) =
            bodies.remove(&stream).and_then(|body| Some(u32::from_be_bytes(body.get(5..9)?.try_into().ok()?)))
        else {
            continue;
        };
        let perform = |wire: &mut u32| {
            *done.lock().expect("no panic while it is held").entry(id).or_default() += 1;
            *wire = stream;
        };
        let answer =
            [frames::response(stream), frames::data(stream, &message(0, b"ok"), false), frames::trailers(stream)];
        match dice.roll(64) {
            0 => return,
            1 => {
                perform(&mut last);
                return;
            }
            2 => {
                perform(&mut last);
                wire.send(&frames::response(stream)).await;
                return;
            }
            3 => wire.send(&[frames::reset(stream, 7)]).await,
            4 => {
                // This one is not covered, those before are.
                wire.send(&[frames::goaway(last, 0)]).await;
                return finish(wire).await;
            }
            5 => {
                perform(&mut last);
                let farewell: Vec<Frame> = answer.concat();
                wire.send(&[vec![frames::goaway(last, 0)], farewell].concat()).await;
                return finish(wire).await;
            }
            6 => {
                perform(&mut last);
                wire.send(&[frames::goaway(last, 2)]).await;
                return;
            }
            7 => {
                perform(&mut last);
                wire.send(&[frames::reset(stream, 2)]).await;
            }
            _ => {
                perform(&mut last);
                wire.send(&answer.concat()).await;
            }
        }
    }
}

/// Reads on until the other side closes, so that what was said last is not lost to a closed socket.
async fn finish(mut wire: Wire) {
    while wire.next_call().await.is_some() {}
}

/// A runtime whose listener, too, goes away for a moment now and then.
async fn runtime(path: PathBuf, done: Done) {
    let mut dice = Dice(0x5eed_cafe);
    let mut listener: UnixListener = upstream::bind(&path);
    let mut connections = JoinSet::new();
    loop {
        let (io, _) = listener.accept().await.expect("a connection");
        connections.spawn(erratic(io, Dice(dice.roll(1 << 40) | 1), done.clone()));
        if dice.roll(6) == 0 {
            drop(listener);
            tokio::task::yield_now().await;
            listener = upstream::bind(&path);
        }
    }
}

/// A client of gRPC's rule; it reconnects when its connection is gone. Gives the answer and how often it sent.
async fn call(client: &tokio::sync::Mutex<Arc<Client>>, front: &std::path::Path, id: u32) -> (Answer, u32) {
    let mut sent = 0;
    loop {
        let connection = client.lock().await.clone();
        sent += 1;
        let body = message(0, &id.to_be_bytes());
        let answer = connection.call(grpc::request("/runtime.v1.RuntimeService/RunPodSandbox"), body).await;
        match &answer.end {
            End::Reset(7) | End::GoneAway(_) if answer.status.is_none() => {}
            _ => {
                if answer.end == End::Lost || matches!(answer.end, End::GoneAway(_)) {
                    reconnect(client, &connection, front).await;
                }
                return (answer, sent);
            }
        }
        if matches!(answer.end, End::GoneAway(_)) {
            reconnect(client, &connection, front).await;
        }
    }
}

async fn reconnect(client: &tokio::sync::Mutex<Arc<Client>>, broken: &Arc<Client>, front: &std::path::Path) {
    let mut held = client.lock().await;
    if Arc::ptr_eq(&held, broken) {
        *held = Arc::new(reached(front).await);
    }
}

/// Connects as soon as somebody listens.
async fn reached(front: &std::path::Path) -> Client {
    super::peer::until("a connection", || Client::with_window(front, 1 << 20)).await
}

async fn play(stand: &Stand) -> (usize, usize, usize) {
    let done = Done::default();
    let mut tasks = JoinSet::new();
    tasks.spawn(runtime(stand.upstream.clone(), done.clone()));
    let client = Arc::new(tokio::sync::Mutex::new(Arc::new(reached(&stand.front).await)));
    let mut callers = JoinSet::new();
    for caller in 0..AT_ONCE {
        let (client, front) = (client.clone(), stand.front.clone());
        callers.spawn(async move {
            let mut all = Vec::new();
            for id in (caller..CALLS).step_by(AT_ONCE as usize) {
                all.push((id, call(&client, &front, id).await));
            }
            all
        });
    }
    let mut answers = Vec::new();
    while let Some(part) = within("the calls", callers.join_next()).await {
        answers.extend(part.expect("no panic"));
    }
    let done = done.lock().expect("no panic while it is held");
    for (id, (answer, sent)) in &answers {
        let times = done.get(id).copied().unwrap_or_default();
        assert!(times <= 1, "call {id} was done {times} times, sent {sent} times, and ended as {answer:?}");
        if answer.grpc_status() == Some("0") {
            assert_eq!(times, 1, "call {id} was answered and never done: {answer:?}");
        }
    }
    let resent = answers.iter().filter(|(_, (_, sent))| *sent > 1).count();
    let fine = answers.iter().filter(|(_, (answer, _))| answer.grpc_status() == Some("0")).count();
    (answers.len(), resent, fine)
}

#[tokio::test]
async fn a_client_that_resends_silently_never_has_a_call_done_twice() {
    // Counts are printed by a failure only; what is compared is that both runs had all three: answers, resends, failures.
    same(async |stand| {
        let (all, resent, fine) = play(stand).await;
        assert_eq!(all, CALLS as usize);
        assert!(resent > 10, "the dice made the client resend: {resent}");
        assert!(fine > all / 2, "most calls went well: {fine} of {all}");
        assert!(fine < all, "the dice broke some");
    })
    .await;
}
