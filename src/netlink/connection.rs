//! One netlink socket: a request goes in, answers come out.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "these enums are the kernel's, and grow with it"
)]

use std::io;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use netlink_packet_core::{
    DecodeError, NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader,
    NetlinkMessage, NetlinkPayload, NetlinkSerializable,
};
use netlink_sys::protocols::{NETLINK_ROUTE, NETLINK_XFRM};
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::error::NetlinkFault;

/// How long the kernel may take. It has answered when `send` returns, unless another process holds
/// its lock.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// The longest datagram that is read, in bytes. The kernel fills 32 KiB when it lists, and much
/// less when it answers.
const LONGEST: usize = 64 * 1024;

/// The length of a message's header, in bytes.
const HEADER: usize = 16;

/// A socket to a part of the kernel, in the network namespace of the thread that opened it.
pub(crate) struct NetlinkSocket {
    socket: Socket,
    sequence: u32,
    datagram: Vec<u8>,
    torn: Torn,
}

/// What is done with a list that changed while it was made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Torn {
    /// It is as good as any: it would be another one in the next moment anyway.
    Taken,
    /// It is of no use.
    Refused,
}

impl NetlinkSocket {
    /// Opens a socket of NETLINK_ROUTE.
    pub(super) fn open() -> Result<Self, NetlinkFault> {
        Self::open_to(NETLINK_ROUTE)
    }

    /// Opens one to the part that knows IPsec policies.
    pub(crate) fn open_xfrm() -> Result<Self, NetlinkFault> {
        Self::open_to(NETLINK_XFRM)
    }

    fn open_to(part: isize) -> Result<Self, NetlinkFault> {
        let mut socket = Socket::new(part)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self {
            socket,
            sequence: 0,
            datagram: Vec::with_capacity(LONGEST),
            torn: Torn::Taken,
        })
    }

    /// Requests a change, and waits for its acknowledgement.
    pub(super) fn change<M: Message>(&mut self, request: M, flags: u16) -> Result<(), NetlinkFault> {
        self.exchange(request, flags | NLM_F_ACK, Until::Acknowledged, |_| {})
    }

    /// Requests one object. The answer is the end: an acknowledgement after it would be one more
    /// wait.
    pub(super) fn send_request<M: Message>(&mut self, request: M) -> Result<M, NetlinkFault> {
        let mut answer = None;
        self.exchange(request, 0, Until::Answered, |message| answer = Some(message))?;
        answer.ok_or_else(|| DecodeError::from("it is empty").into())
    }

    /// Requests a list and passes on its elements, one by one.
    pub(super) fn list_answers<M: Message>(&mut self, request: M, each: impl FnMut(M)) -> Result<(), NetlinkFault> {
        self.exchange(request, NLM_F_DUMP, Until::Acknowledged, each)
    }

    /// The same, where nothing may be missing: a list that changed while it was made is an error.
    pub(crate) fn list_whole<M: Message>(&mut self, request: M, each: impl FnMut(M)) -> Result<(), NetlinkFault> {
        self.torn = Torn::Refused;
        let listed = self.exchange(request, NLM_F_DUMP, Until::Acknowledged, each);
        self.torn = Torn::Taken;
        listed
    }

    /// Lets the kernel leave out of a list what was not asked for. Before Linux 4.20 it does not,
    /// and lists everything.
    pub(super) fn filter_in_kernel(&self) {
        // A saving only: what comes is looked at again.
        let _ = self.socket.set_netlink_get_strict_chk(true);
    }

    fn exchange<M: Message>(
        &mut self,
        request: M,
        flags: u16,
        until: Until,
        mut each: impl FnMut(M),
    ) -> Result<(), NetlinkFault> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut message = NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::InnerMessage(request));
        message.header.flags = NLM_F_REQUEST | flags;
        message.header.sequence_number = self.sequence;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        interruptible(|| self.socket.send(&bytes, 0))?;
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        loop {
            self.receive(deadline)?;
            match (collect(&self.datagram, self.sequence, self.torn, &mut each)?, until) {
                (Progress::Over, _) | (Progress::Answered, Until::Answered) => return Ok(()),
                (Progress::Answered, Until::Acknowledged) | (Progress::Silent, _) => {}
            }
        }
    }

    /// Reads one datagram.
    fn receive(&mut self, deadline: Instant) -> Result<(), NetlinkFault> {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        self.datagram.clear();
        match poll(&mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) => Err(NetlinkFault::Silent),
            Ok(_) => {
                let Self { socket, datagram, .. } = self;
                interruptible(|| socket.recv(datagram, 0))?;
                Ok(())
            }
            // Nothing has come yet; the caller finds an empty datagram, and asks again until the
            // time is over.
            Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// Repeats an operation that a signal interrupted.
fn interruptible<T>(mut work: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match work() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// The messages of a part of netlink: requests and answers.
pub(crate) trait Message: NetlinkSerializable + NetlinkDeserializable + std::fmt::Debug {}

impl<M: NetlinkSerializable + NetlinkDeserializable + std::fmt::Debug> Message for M {}

impl std::fmt::Debug for NetlinkSocket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("sequence", &self.sequence)
            .finish_non_exhaustive()
    }
}

/// When an exchange is over.
#[derive(Clone, Copy)]
enum Until {
    /// With the first answer.
    Answered,
    /// With the acknowledgement, or the end of the list.
    Acknowledged,
}

/// What a datagram contained.
enum Progress {
    /// Nothing of this exchange.
    Silent,
    /// An answer.
    Answered,
    /// The end.
    Over,
}

/// Takes the messages out of one datagram. Those to an earlier request, which was given up, are
/// thrown away.
fn collect<M: Message>(
    mut datagram: &[u8],
    sequence: u32,
    torn: Torn,
    each: &mut impl FnMut(M),
) -> Result<Progress, NetlinkFault> {
    let mut progress = Progress::Silent;
    while !datagram.is_empty() {
        let NetlinkMessage { header, payload, .. } = NetlinkMessage::<M>::deserialize(datagram)?;
        if header.sequence_number == sequence {
            if torn == Torn::Refused && header.flags & NLM_F_DUMP_INTR != 0 {
                return Err(NetlinkFault::Interrupted);
            }
            match payload {
                NetlinkPayload::Done(done) => return progress_of_code(done.code),
                NetlinkPayload::Error(error) => return progress_of_code(error.raw_code()),
                NetlinkPayload::InnerMessage(message) => {
                    each(message);
                    progress = Progress::Answered;
                }
                _ => {}
            }
        }
        datagram = datagram.get(payload_length(&header)..).unwrap_or_default();
    }
    Ok(progress)
}

/// How long a message is, in bytes, with what fills it up.
fn payload_length(header: &NetlinkHeader) -> usize {
    let length = usize::try_from(header.length).unwrap_or(usize::MAX - HEADER);
    length.max(HEADER).next_multiple_of(4)
}

/// The end of an exchange: zero, or an error's number below zero.
fn progress_of_code(code: i32) -> Result<Progress, NetlinkFault> {
    match code {
        0 => Ok(Progress::Over),
        refused => Err(Errno::from_raw(refused.saturating_neg()).into()),
    }
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::{DoneMessage, ErrorMessage};
    use netlink_packet_route::RouteNetlinkMessage;

    use super::*;

    fn bytes(sequence: u32, payload: NetlinkPayload<RouteNetlinkMessage>) -> Vec<u8> {
        let mut header = NetlinkHeader::default();
        header.sequence_number = sequence;
        let mut message = NetlinkMessage::new(header, payload);
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        bytes
    }

    fn refusal(errno: Errno) -> NetlinkPayload<RouteNetlinkMessage> {
        let mut error = ErrorMessage::default();
        error.code = (-(errno as i32)).try_into().ok();
        NetlinkPayload::Error(error)
    }

    #[test]
    fn an_answer_to_an_earlier_request_is_not_taken_for_this_ones() {
        let late = bytes(6, refusal(Errno::EPERM));
        let current = bytes(7, refusal(Errno::ENETDOWN));
        let end = |datagram: &[u8]| collect(datagram, 7, Torn::Taken, &mut |_: RouteNetlinkMessage| {});
        assert!(matches!(end(&late), Ok(Progress::Silent)));
        let both = end(&[late, current].concat());
        assert!(matches!(both, Err(NetlinkFault::Refused(Errno::ENETDOWN))));
    }

    #[test]
    fn a_list_can_end_with_an_error() {
        let mut done = DoneMessage::default();
        done.code = -(Errno::ENOENT as i32);
        let datagram = bytes(7, NetlinkPayload::Done(done));
        let end = collect(&datagram, 7, Torn::Taken, &mut |_: RouteNetlinkMessage| {});
        assert!(matches!(end, Err(NetlinkFault::Refused(Errno::ENOENT))));
    }

    #[test]
    fn a_list_that_changed_meanwhile_is_not_taken_where_it_must_be_whole() {
        let mut header = NetlinkHeader::default();
        header.sequence_number = 7;
        header.flags = NLM_F_DUMP_INTR;
        let mut message = NetlinkMessage::<RouteNetlinkMessage>::new(header, NetlinkPayload::Noop);
        message.finalize();
        let mut datagram = vec![0; message.buffer_len()];
        message.serialize(&mut datagram);
        let end = |torn| collect(&datagram, 7, torn, &mut |_: RouteNetlinkMessage| {});
        assert!(matches!(end(Torn::Refused), Err(NetlinkFault::Interrupted)));
        assert!(matches!(end(Torn::Taken), Ok(Progress::Silent)));
    }
}
