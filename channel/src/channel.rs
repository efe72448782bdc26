//! The channel as an application sees it.
#![forbid(unsafe_code)]

use alloc::vec::Vec;

use zeroize::{Zeroize, Zeroizing};

use crate::ChannelId;
use crate::appraise::{PeerPolicy, PolicyError, VerifiedIdentity};
use crate::handshake::{AttestedHandshake, Attester, BoxError, Established, HandshakeError, State};
use crate::noise::Role;
use crate::record::{Opener, RecordError, Sealer};
use crate::region::Region;
use crate::ring::{Consumer, Direction, Fetched, Kind, Layout, Producer, RingError};

/// Why a channel call failed. [`Error::is_final`] says whether the channel survives.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The policy makes no sense.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The caller's source of random bytes failed.
    #[error("no random bytes: {0}")]
    Entropy(BoxError),
    /// The shared region is too small, full, or was tampered with.
    #[error("shared region: {0}")]
    Ring(#[from] RingError),
    /// The handshake failed.
    #[error("handshake: {0}")]
    Handshake(#[from] HandshakeError),
    /// A message was refused.
    #[error("record: {0}")]
    Record(#[from] RecordError),
    /// A slot carries a kind of message that has no place in this state.
    #[error("unexpected {kind:?} message in state {state:?}")]
    Unexpected {
        /// The state.
        state: State,
        /// The slot's kind.
        kind: Kind,
    },
    /// The handshake is not finished yet.
    #[error("channel is in state {state:?}, not open")]
    NotOpen {
        /// The state.
        state: State,
    },
    /// The peer ended the conversation; every message it sent was delivered.
    #[error("peer closed the channel")]
    ClosedByPeer,
    /// The channel ended earlier, by either side or by an error already reported.
    #[error("channel is closed")]
    Closed,
    /// The caller's callback said to stop waiting.
    #[error("gave up waiting in state {state:?}")]
    GaveUp {
        /// The state.
        state: State,
    },
}

impl Error {
    /// Whether the channel is closed by this error. The others leave everything as it was.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        !matches!(
            self,
            Self::Ring(RingError::Full | RingError::TooLong { .. })
                | Self::Record(RecordError::TooLong { .. })
                | Self::NotOpen { .. }
                | Self::GaveUp { .. }
        )
    }
}

/// One end of an attested channel over a shared region.
///
/// Nothing here blocks: [`Channel::poll`] does what can be done, and [`Channel::open`] repeats it for as long as the
/// caller's callback allows. A region serves one session; for the next one it must be zeroed and both ends
/// connected anew.
pub struct Channel<R, A> {
    region: R,
    role: Role,
    id: ChannelId,
    attester: A,
    layout: Layout,
    tx: Producer,
    rx: Consumer,
    slot: Fetched,
    sealed: Vec<u8>,
    phase: Phase,
}

enum Phase {
    Handshake(AttestedHandshake),
    Open { sealer: Sealer, opener: Opener, transcript: [u8; 32], peer: VerifiedIdentity },
    Closed,
}

impl<R, A> core::fmt::Debug for Channel<R, A> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Channel").field("role", &self.role).field("state", &self.phase.state()).finish_non_exhaustive()
    }
}

impl<R: Region, A: Attester> Channel<R, A> {
    /// Prepares one end of the channel `id` over `region`; nothing is sent before the first [`Channel::poll`].
    ///
    /// `random` fills its argument with random bytes; it is asked for 64 of them, once.
    ///
    /// # Errors
    /// [`Error::Policy`], [`Error::Ring`] for a region that is too small, [`Error::Entropy`].
    pub fn connect(
        region: R,
        role: Role,
        id: ChannelId,
        attester: A,
        policy: PeerPolicy,
        mut random: impl FnMut(&mut [u8]) -> Result<(), BoxError>,
    ) -> Result<Self, Error> {
        policy.validate()?;
        let layout = Layout::for_words(region.words())?;
        let (ours, theirs) = match role {
            Role::Initiator => (Direction::InitiatorToResponder, Direction::ResponderToInitiator),
            Role::Responder => (Direction::ResponderToInitiator, Direction::InitiatorToResponder),
        };
        let mut static_key = Zeroizing::new([0; 32]);
        let mut ephemeral_key = Zeroizing::new([0; 32]);
        random(&mut *static_key).map_err(Error::Entropy)?;
        random(&mut *ephemeral_key).map_err(Error::Entropy)?;
        let handshake = AttestedHandshake::new(role, id, policy, &static_key, &ephemeral_key);
        Ok(Self {
            region,
            role,
            id,
            attester,
            layout,
            tx: Producer::new(layout, ours),
            rx: Consumer::new(layout, theirs),
            slot: Fetched::default(),
            sealed: Vec::new(),
            phase: Phase::Handshake(handshake),
        })
    }

    /// Does the next step of the handshake if the peer has done its part, and says where the channel stands.
    ///
    /// # Errors
    /// Any [`Error`]; the channel is closed then. [`Error::Closed`] if it was before.
    pub fn poll(&mut self) -> Result<State, Error> {
        let result = self.advance();
        self.settle(result)?;
        Ok(self.state())
    }

    /// Polls until the channel is open. `wait` is called between polls to pause, yield or watch the clock, and
    /// returns whether to go on.
    ///
    /// # Errors
    /// As [`Channel::poll`], and [`Error::GaveUp`], after which polling may go on.
    pub fn open(&mut self, mut wait: impl FnMut() -> bool) -> Result<(), Error> {
        loop {
            let state = self.poll()?;
            if state == State::Open {
                return Ok(());
            }
            if !wait() {
                return Err(Error::GaveUp { state });
            }
        }
    }

    /// Where the channel stands.
    #[must_use]
    pub fn state(&self) -> State {
        self.phase.state()
    }

    /// Who the peer is; `None` unless the channel is open.
    #[must_use]
    pub const fn peer(&self) -> Option<&VerifiedIdentity> {
        match &self.phase {
            Phase::Open { peer, .. } => Some(peer),
            _ => None,
        }
    }

    /// The session's transcript hash, equal at both ends and in no other session; `None` unless the channel is open.
    #[must_use]
    pub const fn transcript(&self) -> Option<&[u8; 32]> {
        match &self.phase {
            Phase::Open { transcript, .. } => Some(transcript),
            _ => None,
        }
    }

    /// Sends one message of at most [`crate::record::MAX_MESSAGE`] bytes.
    ///
    /// # Errors
    /// [`RingError::Full`] (try again later), [`RecordError::TooLong`] and [`Error::NotOpen`] change nothing; any
    /// other error closes the channel.
    pub fn send(&mut self, message: &[u8]) -> Result<(), Error> {
        let result = self.push(Kind::Data, message);
        self.settle(result)
    }

    /// Takes the next message, if there is one.
    ///
    /// # Errors
    /// [`Error::NotOpen`] before the handshake is finished; [`Error::ClosedByPeer`] when the peer has said
    /// goodbye; any other error means that the region was tampered with, and closes the channel.
    pub fn recv(&mut self) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
        let result = self.pull();
        self.settle(result)
    }

    /// Says goodbye (if the ring has room for it) and closes the channel. Without a goodbye the other end cannot tell
    /// the end of the conversation from a host that withholds messages.
    pub fn close(&mut self) {
        // A goodbye that cannot be sent changes nothing about our side being closed.
        let _unsent = self.push(Kind::Close, &[]);
        self.shut();
    }

    fn advance(&mut self) -> Result<(), Error> {
        let Phase::Handshake(handshake) = &mut self.phase else {
            return match self.phase {
                Phase::Closed => Err(Error::Closed),
                _ => Ok(()),
            };
        };
        let state = handshake.state();
        if (self.role, state) == (Role::Initiator, State::Start) {
            let message = handshake.begin()?;
            self.tx.push(&self.region, Kind::Handshake, &message)?;
            return Ok(self.layout.write_header(&self.region)?);
        }
        if (self.role, state) == (Role::Responder, State::Start) && !self.layout.check_header(&self.region)? {
            return Ok(());
        }
        if !self.rx.pop(&self.region, &mut self.slot)? {
            return Ok(());
        }
        if self.slot.kind() != Kind::Handshake {
            return Err(Error::Unexpected { state, kind: self.slot.kind() });
        }
        let message = self.slot.payload();
        let established = match (self.role, state) {
            (Role::Responder, State::Start) => {
                let answer = handshake.answer(message, &mut self.attester)?;
                self.tx.push(&self.region, Kind::Handshake, &answer)?;
                return Ok(());
            }
            (Role::Initiator, _) => {
                let (proof, established) = handshake.prove(message, &mut self.attester)?;
                self.tx.push(&self.region, Kind::Handshake, &proof)?;
                established
            }
            (Role::Responder, _) => handshake.accept(message)?,
        };
        self.phase = self.opened(established);
        Ok(())
    }

    fn opened(&self, established: Established) -> Phase {
        let Established { session, peer } = established;
        let (to_responder, to_initiator) = (Direction::InitiatorToResponder, Direction::ResponderToInitiator);
        let (sealer, opener) = match self.role {
            Role::Initiator => (
                Sealer::new(&session.initiator_key, self.id, to_responder),
                Opener::new(&session.responder_key, self.id, to_initiator),
            ),
            Role::Responder => (
                Sealer::new(&session.responder_key, self.id, to_initiator),
                Opener::new(&session.initiator_key, self.id, to_responder),
            ),
        };
        Phase::Open { sealer, opener, transcript: session.transcript, peer }
    }

    fn push(&mut self, kind: Kind, message: &[u8]) -> Result<(), Error> {
        let state = self.state();
        let Phase::Open { sealer, .. } = &mut self.phase else {
            return Err(not_open(state));
        };
        // Room is checked first: a sealed record uses up its number, and numbers may not be skipped.
        self.tx.ready(&self.region)?;
        sealer.seal(kind, message, &mut self.sealed)?;
        match self.tx.push(&self.region, kind, &self.sealed) {
            // It had room a moment ago, and a consumer never takes that back.
            Err(RingError::Full) => Err(RingError::Retracted { position: self.tx.position() }.into()),
            result => Ok(result?),
        }
    }

    fn pull(&mut self) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
        let state = self.state();
        let Phase::Open { opener, .. } = &mut self.phase else {
            return Err(not_open(state));
        };
        if !self.rx.pop(&self.region, &mut self.slot)? {
            return Ok(None);
        }
        let kind = self.slot.kind();
        if kind == Kind::Handshake {
            return Err(Error::Unexpected { state, kind });
        }
        let message = opener.open(kind, self.slot.payload_mut())?;
        let plain = Zeroizing::new(message.to_vec());
        message.zeroize();
        match kind {
            Kind::Close => Err(Error::ClosedByPeer),
            _ => Ok(Some(plain)),
        }
    }

    fn settle<T>(&mut self, result: Result<T, Error>) -> Result<T, Error> {
        if result.as_ref().is_err_and(Error::is_final) {
            self.shut();
        }
        result
    }

    /// Drops the keys, which erase themselves.
    fn shut(&mut self) {
        self.phase = Phase::Closed;
    }
}

impl Phase {
    const fn state(&self) -> State {
        match self {
            Self::Handshake(handshake) => handshake.state(),
            Self::Open { .. } => State::Open,
            Self::Closed => State::Closed,
        }
    }
}

fn not_open(state: State) -> Error {
    match state {
        State::Closed => Error::Closed,
        state => Error::NotOpen { state },
    }
}
