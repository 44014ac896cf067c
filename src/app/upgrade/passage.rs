//! What two processes say to each other in an upgrade, over a socket that the new one finds as its standard input (as servers of inetd do).
//!
//! Each message is a line of JSON, so that versions may add to it. The first, of the old process, carries descriptors.

use std::io::{self, IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::cmsg_space;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};

/// The CRI socket, with its file.
pub const CRI: &str = "cri";
/// The CRI socket, whose file is systemd's.
pub const ACTIVATED: &str = "activated";
/// The socket of the metrics address.
pub const METRICS: &str = "metrics";
/// The admin socket, with its file.
pub const ADMIN: &str = "admin";
/// The lock of the state directory.
pub const STATE: &str = "state";

/// Descriptors that a message may carry.
const MOST: usize = 16;
/// Bytes that a message with descriptors may have.
const LONGEST: usize = 4096;

/// A descriptor, and what it is.
pub type Passed = (String, OwnedFd);

/// What the old process says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Old {
    /// The names of the descriptors that come with it, in their order.
    Pass(Vec<String>),
    /// Accept now.
    Go,
}

/// What the new process says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum New {
    /// It could accept, and has taken these.
    Ready(Vec<String>),
    /// It cannot go on, and why.
    Failed(String),
    /// It ends, or has been upgraded itself: what it was given is not to be taken back.
    Released,
}

/// Says something.
pub fn say(mut to: impl Write, message: &impl Serialize) -> io::Result<()> {
    to.write_all(&line(message)?)
}

/// A message as it is sent.
pub fn line(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(line)
}

/// Passes descriptors; the names become the message.
pub fn pass(to: &UnixStream, passed: &[(&str, OwnedFd)]) -> io::Result<()> {
    let names = passed.iter().map(|(name, _)| (*name).to_owned()).collect();
    let line = line(&Old::Pass(names))?;
    let descriptors: Vec<_> = passed.iter().map(|(_, descriptor)| descriptor.as_fd()).collect();
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MOST))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::Error::other("too many descriptors"));
    }
    let sent = sendmsg(to, &[IoSlice::new(&line)], &mut control, SendFlags::empty())?;
    if sent == line.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// Takes what [`pass`] passes, which has been sent already. Nothing of it is inherited by processes that are started later.
pub fn take(from: &UnixStream) -> io::Result<Vec<Passed>> {
    let mut line = [0; LONGEST];
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MOST))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(from, &mut [IoSliceMut::new(&mut line)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let descriptors = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let descriptors: Vec<OwnedFd> = descriptors.flatten().collect();
    let Old::Pass(names) = serde_json::from_slice(&line[..received.bytes])? else {
        return Err(io::Error::other("nothing was passed"));
    };
    if names.len() != descriptors.len() {
        return Err(io::Error::other(format!("{} names for {} descriptors", names.len(), descriptors.len())));
    }
    Ok(names.into_iter().zip(descriptors).collect())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek};

    use super::*;

    #[test]
    fn what_is_passed_arrives_under_its_name() {
        let (here, there) = UnixStream::pair().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"text").unwrap();
        let socket = UnixStream::pair().unwrap().0;
        pass(&here, &[(STATE, file.into()), (CRI, socket.into())]).unwrap();
        let mut taken = take(&there).unwrap().into_iter();
        let ((first, file), (second, socket)) = (taken.next().unwrap(), taken.next().unwrap());
        assert_eq!((&*first, &*second), (STATE, CRI));
        let (mut file, mut text) = (std::fs::File::from(file), String::new());
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "text");
        assert!(UnixStream::from(socket).peer_addr().is_ok());
    }
}
