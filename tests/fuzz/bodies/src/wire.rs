//! What comes over a wire that somebody else holds: the vTPM's socket, the channel's shared memory, the agent's serial line.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::OnceLock;

use bulla_agent::frame::{Message, Receiver};
use bulla_attest::Evidence;
use bulla_channel::handshake::AttestedHandshake;
use bulla_channel::region::{HeapRegion, Region};
use bulla_channel::ring::Layout;
use bulla_channel::{AttestedIdentity, BoxError, Channel, ChannelId, Role, State};
use bulla_vtpm_client::frame::{FrameBuffer, FrameError};
use bulla_vtpm_client::{Locality, MAX_PAYLOAD, Op, Status};

use crate::script::Script;
use crate::soft_tpm::SoftTpm;

/// A stream that gives bytes away in pieces of one size.
struct Pieces<'a> {
    bytes: &'a [u8],
    size: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let count = room.len().min(self.size);
        self.bytes.read(&mut room[..count])
    }
}

/// Frames of the vTPM's protocol in pieces: the first byte is their size (0: 256), the stream follows. Both readers
/// end in one frame or an error, and a frame that was read is written as the same bytes. Answers whether there was one.
pub fn vtpm_frame(bytes: &[u8]) -> bool {
    let Some((size, bytes)) = bytes.split_first() else { return false };
    let size = if *size == 0 { 256 } else { usize::from(*size) };
    let (mut buffer, mut sent) = (FrameBuffer::new(), Vec::new());
    let request = match buffer.receive_request(&mut Pieces { bytes, size }) {
        Ok(Some(request)) => {
            assert!(request.payload.len() <= MAX_PAYLOAD);
            if let (Some(op), Ok(locality)) = (Op::from_number(request.op), Locality::try_from(request.locality)) {
                let payload = request.payload.to_vec();
                buffer.send_request(&mut sent, op, locality, &payload).expect("it came in a frame");
                assert!(bytes.starts_with(&sent));
            }
            true
        }
        end => check_end(&end, bytes),
    };
    sent.clear();
    let reply = match buffer.receive_reply(&mut Pieces { bytes, size }) {
        Ok(Some(reply)) => {
            assert!(reply.payload.len() <= MAX_PAYLOAD);
            if let Some(status) = Status::from_number(reply.status) {
                let payload = reply.payload.to_vec();
                buffer.send_reply(&mut sent, status, &payload).expect("it came in a frame");
                assert!(bytes.starts_with(&sent));
            }
            true
        }
        end => check_end(&end, bytes),
    };
    request | reply
}

/// A serial line in pieces: the first byte is their size (0: 256). The pieces do not matter, a message that was read stands on the line
/// as it is written, and claims that are read have one encoding. Answers whether there was a message.
pub fn agent_line(bytes: &[u8]) -> bool {
    let Some((size, bytes)) = bytes.split_first() else { return false };
    let size = if *size == 0 { 256 } else { usize::from(*size) };
    let (mut receiver, mut whole) = (Receiver::new(), bytes);
    let read: Vec<_> = std::iter::from_fn(|| receiver.take(&mut whole)).collect();
    assert!(whole.is_empty());
    let mut receiver = Receiver::new();
    let mut in_pieces = Vec::new();
    for mut piece in bytes.chunks(size) {
        in_pieces.extend(std::iter::from_fn(|| receiver.take(&mut piece)));
    }
    assert_eq!(read, in_pieces);
    let mut rest = bytes;
    for message in read.iter().flatten() {
        let frame = message.to_frame().expect("it came in a frame");
        let at = rest.windows(frame.len()).position(|window| window == frame).expect("in the order of the line");
        rest = &rest[at + frame.len()..];
        if let Message::Evidence(claims) = message
            && let Ok(evidence) = Evidence::from_unsigned(claims)
        {
            assert_eq!(&evidence.to_unsigned(), claims);
        }
    }
    read.iter().any(Result::is_ok)
}

/// How a conversation ends without a frame: nothing was sent, or the error says what is wrong with what was.
fn check_end<T>(end: &Result<Option<T>, FrameError>, bytes: &[u8]) -> bool {
    match end {
        Ok(_) => assert!(bytes.is_empty()),
        Err(FrameError::Truncated { got }) => assert_eq!(*got, bytes.len()),
        Err(FrameError::Length { length, .. }) => assert!(bytes.starts_with(&length.to_be_bytes())),
        Err(FrameError::Excess { extra }) => assert!(*extra < bytes.len()),
        Err(error) => panic!("{error}: memory does not fail"),
    }
    false
}

/// The channel. The first byte chooses, modulo 3: messages straight into a handshake's ends; an identity by itself; or
/// two ends over one region, with a host that changes the region between their steps. Answers whether a message arrived.
pub fn channel(bytes: &[u8]) -> bool {
    let Some((what, bytes)) = bytes.split_first() else { return false };
    match what % 3 {
        0 => handshake(bytes),
        1 => identity(bytes),
        _ => return conversation(bytes),
    }
    false
}

/// The key of end 1 or 2; made once, since that takes longer than a handshake's steps.
fn soft_tpm(number: u8) -> SoftTpm {
    static KEYS: OnceLock<[SoftTpm; 2]> = OnceLock::new();
    let keys = KEYS.get_or_init(|| [SoftTpm::new(1), SoftTpm::new(2)]);
    keys[usize::from(number) - 1].clone()
}

const ID: ChannelId = ChannelId::new([0x42; 32]);

fn handshake(bytes: &[u8]) {
    let end = |role, seed: u8, peer: u8| {
        let policy = soft_tpm(peer).policy();
        AttestedHandshake::new(role, ID, policy, &[seed; 32].into(), &[seed | 0x80; 32].into())
    };
    let (mut initiator, mut responder) = (end(Role::Initiator, 1, 2), end(Role::Responder, 2, 1));
    let mut script = Script::new(bytes);
    let (Some(first), Some(second)) = (script.sized(), script.sized()) else { return };
    initiator.begin().expect("nothing has gone wrong yet");
    // An answer that was not made for this very message 1 cannot hold its key.
    assert!(initiator.prove(second, &mut soft_tpm(1)).is_err());
    assert_eq!(initiator.state(), State::Closed);
    if responder.answer(first, &mut soft_tpm(2)).is_err() {
        assert_eq!(responder.state(), State::Closed);
    }
    assert!(responder.accept(second).is_err());
    assert_eq!(responder.state(), State::Closed);
}

fn identity(bytes: &[u8]) {
    let Ok(identity) = AttestedIdentity::decode(bytes) else { return };
    assert_eq!(identity.encode().as_deref(), Ok(bytes));
    // Nobody has the key that signs this transcript.
    let extra = bulla_channel::identity::extra_data(&[0x5a; 32]);
    assert!(bulla_channel::appraise::verify(&identity, &extra, None).is_err());
}

type End = Channel<HeapRegion, SoftTpm>;

/// Two ends, and what each has sent and not yet seen arrive.
struct Conversation {
    region: HeapRegion,
    ends: [End; 2],
    sent: [VecDeque<Vec<u8>>; 2],
    arrived: usize,
}

/// A step is a byte: bit 0 is whose step it is, the next three what it does (modulo 8).
fn conversation(bytes: &[u8]) -> bool {
    let region = HeapRegion::new(Layout::bytes_for(2) / 8);
    let end = |role, seed: u8, peer: u8| {
        let policy = soft_tpm(peer).policy();
        Channel::connect(region.clone(), role, ID, soft_tpm(seed), policy, counted(seed)).expect("a good policy")
    };
    let ends = [end(Role::Initiator, 1, 2), end(Role::Responder, 2, 1)];
    let mut conversation = Conversation { region, ends, sent: Default::default(), arrived: 0 };
    let mut script = Script::new(bytes);
    for _ in 0..256 {
        if conversation.step(&mut script).is_none() {
            break;
        }
    }
    conversation.arrived > 0
}

/// Bytes that are different for each end, and the same each time.
fn counted(mut next: u8) -> impl FnMut(&mut [u8]) -> Result<(), BoxError> {
    move |out| {
        out.fill_with(|| {
            next = next.wrapping_mul(5).wrapping_add(3);
            next
        });
        Ok(())
    }
}

impl Conversation {
    fn step(&mut self, script: &mut Script<'_>) -> Option<()> {
        let step = script.byte()?;
        let (me, peer) = if step & 1 == 0 { (0, 1) } else { (1, 0) };
        match step >> 1 & 7 {
            0 | 1 => drop(self.ends[me].poll()),
            2 => {
                let message = script.sized()?.to_vec();
                if self.ends[me].send(&message).is_ok() {
                    self.sent[me].push_back(message);
                }
            }
            3 | 4 => {
                // Whatever the host does: what arrives is what the peer sent next.
                if let Ok(Some(message)) = self.ends[me].recv() {
                    assert_eq!(self.sent[peer].pop_front().as_ref(), Some(&*message));
                    self.arrived += 1;
                }
            }
            5 => self.ends[me].close(),
            6 => {
                let [high, low, value] = script.array()?;
                self.tamper(u16::from_be_bytes([high, low]).into(), |word| word ^ u64::from(value));
            }
            _ => {
                let [high, low, value @ ..] = script.array::<10>()?;
                self.tamper(u16::from_be_bytes([high, low]).into(), |_| u64::from_le_bytes(value));
            }
        }
        self.check();
        Some(())
    }

    fn tamper(&self, index: usize, change: impl FnOnce(u64) -> u64) {
        let index = index % self.region.words();
        let word = self.region.load(index).expect("inside");
        self.region.store(index, change(word)).expect("inside");
    }

    /// Two open ends are in one session, each with the peer that its policy names.
    fn check(&self) {
        let [a, b] = &self.ends;
        if let (Some(ours), Some(theirs)) = (a.transcript(), b.transcript()) {
            assert_eq!(ours, theirs);
        }
        for (end, peer) in [(a, 2), (b, 1)] {
            assert_eq!(end.peer().is_some(), end.state() == State::Open);
            if let Some(identity) = end.peer() {
                assert_eq!(identity.ak().as_bytes(), soft_tpm(peer).public().name().as_bytes());
            }
        }
    }
}
