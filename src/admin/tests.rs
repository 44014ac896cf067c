//! Time stands still here until everybody waits.

use futures_util::stream;
use http_body_util::StreamBody;
use hyper::body::Frame;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::{Mutex, mpsc};
use tokio::time::Instant;

use super::connections::CLIENTS;
use super::turn::LIMIT;
use super::*;

/// What fits between two ends, less than any page.
const PIPE: usize = 64;
/// The length of the page.
const PAGE: usize = 4096;
/// What it consists of, and no head has.
const FILL: u8 = b'#';

struct Dialled(Mutex<mpsc::UnboundedReceiver<DuplexStream>>);

impl Accept for Dialled {
    async fn client(&self) -> io::Result<Client<impl AsyncRead + AsyncWrite + Unpin + Send + 'static>> {
        let client = self.0.lock().await.recv().await;
        client.map(|client| (client, "test".into())).ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }
}

fn page() -> Response<Body> {
    respond(StatusCode::OK, "text/plain", &[FILL; PAGE][..])
}

/// A page every minute.
fn endless() -> Response<Body> {
    json_lines(
        StreamBody::new(stream::unfold((), async |()| {
            sleep(Duration::from_mins(1)).await;
            Some((Ok(Frame::data(Bytes::from_static(&[FILL; PAGE]))), ()))
        }))
        .boxed_unsync(),
    )
}

/// Gives a way to dial a server of this answer.
fn serve(answer: fn() -> Response<Body>) -> impl Fn() -> DuplexStream {
    let report: Report = Arc::new(|| Box::pin(async { Checks::default() }));
    let admin = Admin {
        page: Arc::new(|_| Box::pin(async { page() })),
        registry: Registry::new(),
        alive: Arc::clone(&report),
        ready: report,
        api: Some(Arc::new(move |_| Box::pin(async move { answer() }))),
    };
    let (dial, dialled) = mpsc::unbounded_channel();
    tokio::spawn(async move { admin.serve(&Dialled(Mutex::new(dialled))).await });
    move || {
        let (here, there) = duplex(PIPE);
        dial.send(there).expect("it is served");
        here
    }
}

async fn ask(client: &mut DuplexStream) {
    client.write_all(b"GET /v1/ HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("it fits");
}

/// Reads so much of what the page consists of.
async fn take(client: &mut DuplexStream, length: usize) {
    let mut taken = 0;
    while taken < length {
        taken += usize::from(client.read_u8().await.expect("more of the page") == FILL);
    }
}

/// Reads until crihook hangs up.
async fn rest(client: &mut DuplexStream) -> usize {
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.expect("it ends");
    rest.len()
}

#[tokio::test(start_paused = true)]
async fn who_reads_an_answer_by_a_trickle_is_hung_up_on() {
    let dial = serve(page);
    let (mut client, begun) = (dial(), Instant::now());
    ask(&mut client).await;
    while begun.elapsed() <= LIMIT {
        take(&mut client, 1).await;
        sleep(Duration::from_millis(950)).await;
    }
    assert!(rest(&mut client).await <= PIPE, "only what was on the way");
}

#[tokio::test(start_paused = true)]
async fn who_asks_by_a_trickle_is_hung_up_on() {
    let dial = serve(page);
    let (mut client, begun) = (dial(), Instant::now());
    for byte in b"GET /metric".iter().take(11) {
        client.write_all(&[*byte]).await.expect("not yet");
        sleep(Duration::from_millis(950)).await;
    }
    assert_eq!(rest(&mut client).await, 0);
    assert!(begun.elapsed() < LIMIT * 2, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn who_reads_may_ask_again() {
    let dial = serve(page);
    let mut client = dial();
    for _ in 0..5 {
        ask(&mut client).await;
        take(&mut client, PAGE).await;
        sleep(LIMIT.mul_f64(0.9)).await;
    }
    assert_eq!(rest(&mut client).await, 0, "and is hung up on in the end");
}

#[tokio::test(start_paused = true)]
async fn who_follows_what_happens_may_rest() {
    let dial = serve(endless);
    let mut client = dial();
    ask(&mut client).await;
    for _ in 0..3 {
        sleep(STAY).await;
        take(&mut client, PAGE).await;
    }
}

#[tokio::test(start_paused = true)]
async fn however_many_do_not_read_others_are_answered() {
    let dial = serve(page);
    let begun = Instant::now();
    let mut slow: Vec<_> = (0..CLIENTS * 3).map(|_| dial()).collect();
    for client in &mut slow {
        ask(client).await;
    }
    let mut client = dial();
    ask(&mut client).await;
    take(&mut client, PAGE).await;
    assert!(begun.elapsed() < LIMIT, "nobody waited for those: {:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn of_many_who_come_at_once_and_read_all_are_answered() {
    let dial = serve(page);
    let clients = (0..CLIENTS * 3).map(|_| dial()).map(|mut client| async move {
        ask(&mut client).await;
        take(&mut client, PAGE).await;
    });
    futures_util::future::join_all(clients).await;
}
