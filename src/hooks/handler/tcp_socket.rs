//! `tcpSocket`: connects, and closes.

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::target::Target;
use super::values::{Node, Values};
use super::{Delivery, Evidence, Failure, Handler, trouble};
use crate::hooks::Boxed;
use crate::hooks::policy;

/// Succeeds when a connection is accepted.
#[derive(Debug)]
pub(super) struct TcpSocket {
    pub(super) node: Node,
    pub(super) spec: policy::TcpSocket,
}

impl Handler for TcpSocket {
    fn attempt(&self, delivery: Delivery) -> Boxed<'_, Result<Evidence, Failure>> {
        Box::pin(async move {
            let limit = delivery.deadline.saturating_duration_since(Instant::now());
            let values = Values { delivery: &delivery, node: &self.node };
            let target = Target::of(values, self.spec.host.as_ref(), &self.spec.port)?;
            let connect = TcpStream::connect((target.host.as_str(), target.port));
            match timeout_at(delivery.deadline, connect).await {
                Ok(Ok(_connected)) => Ok(Evidence::default()),
                Ok(Err(error)) => Err(Failure::failed(trouble::of_io(&error, &target.authority()))),
                Err(_) => Err(trouble::no_answer(&target.authority(), limit)),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::super::{Failing, testing};
    use super::*;
    use crate::hooks::policy::{Action, PortRef};

    fn socket(port: u16) -> Action {
        Action::TcpSocket(policy::TcpSocket { port: PortRef::Number(port), host: None })
    }

    #[tokio::test]
    async fn it_connects_and_closes() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        testing::attempt(socket(listener.local_addr().unwrap().port())).await.unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0, "closed without a byte");
    }

    #[tokio::test]
    async fn a_refused_connection_and_an_unknown_host_are_told_apart() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let failure = testing::attempt(socket(port)).await.unwrap_err();
        assert_eq!(
            (failure.kind, failure.message),
            (Failing::Failed, format!("connection refused by 127.0.0.1:{port}"))
        );

        let nowhere = policy::TcpSocket { port: PortRef::Number(9), host: Some(testing::template("no.such.invalid")) };
        let message = testing::attempt(Action::TcpSocket(nowhere)).await.unwrap_err().message;
        assert!(message.starts_with("the name of no.such.invalid:9 cannot be resolved: "), "{message}");
    }
}
