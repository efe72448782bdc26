//! The attested handshake: Noise XX with a quote over the transcript in messages 2 and 3.
//!
//! Each side's quote covers `"bulla-channel-v1"` ‖ `h`, where `h` is the Noise transcript hash after the tokens of the
//! message and before its payload. `h` covers the channel id, both ephemeral keys and the sender's own static
//! key, so the quote says "this TPM's machine, in this conversation", not merely "this key was once attested".
//!
//! The initiator appraises the responder before it reveals itself; the responder reveals itself to whoever
//! asks, as XX does.
#![forbid(unsafe_code)]

use alloc::boxed::Box;
use alloc::vec::Vec;

use zeroize::Zeroizing;

use crate::ChannelId;
use crate::appraise::{AppraisalError, PeerPolicy, VerifiedIdentity, verify};
use crate::identity::{AttestedIdentity, EXTRA_BYTES, IdentityError, extra_data};
use crate::noise::{Handshake, NoiseError, Role, Session};

const PROLOGUE_LABEL: &[u8; 16] = b"bulla-channel-v1";

/// An error of the caller's own, boxed.
pub type BoxError = Box<dyn core::error::Error + Send + Sync>;

/// Whoever can have our TPM sign.
pub trait Attester {
    /// Quotes exactly the PCRs that the peer's policy asks for, over `extra`, and says what is needed to check it.
    ///
    /// # Errors
    /// Whatever went wrong; the handshake ends with it.
    fn quote(&mut self, extra: &[u8; EXTRA_BYTES]) -> Result<AttestedIdentity, BoxError>;
}

/// How far a channel has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Nothing said yet.
    Start,
    /// Initiator: message 1 is out.
    AwaitingAnswer,
    /// Responder: message 2 is out.
    AwaitingProof,
    /// The peer is accepted and there are keys.
    Open,
    /// Over, for whatever reason; the keys are gone.
    Closed,
}

/// Every legal change of state, and whose it is.
pub const TRANSITIONS: &[(Role, State, State)] = &[
    (Role::Initiator, State::Start, State::AwaitingAnswer),
    (Role::Initiator, State::AwaitingAnswer, State::Open),
    (Role::Responder, State::Start, State::AwaitingProof),
    (Role::Responder, State::AwaitingProof, State::Open),
    (Role::Initiator, State::Start, State::Closed),
    (Role::Initiator, State::AwaitingAnswer, State::Closed),
    (Role::Initiator, State::Open, State::Closed),
    (Role::Responder, State::Start, State::Closed),
    (Role::Responder, State::AwaitingProof, State::Closed),
    (Role::Responder, State::Open, State::Closed),
];

impl State {
    /// Whether `role` may go from this state to `next`.
    #[must_use]
    pub fn may_become(self, role: Role, next: Self) -> bool {
        TRANSITIONS.contains(&(role, self, next))
    }
}

/// Why a handshake ended.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The Noise layer refused.
    #[error(transparent)]
    Noise(#[from] NoiseError),
    /// The peer's identity does not decode.
    #[error("peer's identity: {0}")]
    PeerIdentity(#[source] IdentityError),
    /// The peer's identity fails a check or our policy.
    #[error("peer refused: {0}")]
    Peer(#[source] AppraisalError),
    /// Our own attester failed.
    #[error("our own quote failed: {0}")]
    Attester(BoxError),
    /// Our own identity cannot be encoded.
    #[error("our own identity: {0}")]
    OwnIdentity(#[source] IdentityError),
    /// Our own attester made something that no peer would accept.
    #[error("our own quote is unusable: {0}")]
    OwnQuote(#[source] AppraisalError),
    /// A step was asked for that the state does not allow.
    #[error("{role:?} cannot go from {from:?} to {to:?}")]
    Transition {
        /// Our role.
        role: Role,
        /// The state we are in.
        from: State,
        /// The state the step leads to.
        to: State,
    },
}

/// What a finished handshake gives.
#[derive(Debug)]
pub struct Established {
    /// Keys and the session's name.
    pub session: Session,
    /// Who the peer is.
    pub peer: VerifiedIdentity,
}

/// One side's handshake, free of any transport: messages in, messages out.
#[derive(Debug)]
pub struct AttestedHandshake {
    role: Role,
    state: State,
    noise: Option<Handshake>,
    policy: PeerPolicy,
    mine: Option<VerifiedIdentity>,
}

impl AttestedHandshake {
    /// Begins a handshake; the two keys are 32 random bytes each, never used before.
    #[must_use]
    pub fn new(
        role: Role,
        id: ChannelId,
        policy: PeerPolicy,
        static_key: &Zeroizing<[u8; 32]>,
        ephemeral_key: &Zeroizing<[u8; 32]>,
    ) -> Self {
        let prologue: Vec<u8> = PROLOGUE_LABEL.iter().chain(id.as_bytes()).copied().collect();
        Self {
            role,
            state: State::Start,
            noise: Some(Handshake::new(role, &prologue, static_key, ephemeral_key)),
            policy,
            mine: None,
        }
    }

    /// Where the handshake stands. It is [`State::Closed`] after any error.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// Initiator: message 1.
    ///
    /// # Errors
    /// Any [`HandshakeError`], as for every step.
    pub fn begin(&mut self) -> Result<Vec<u8>, HandshakeError> {
        self.step(State::AwaitingAnswer, |_, noise| {
            let mut message = Vec::new();
            noise.write_tokens(&mut message)?;
            noise.write_payload(&[], &mut message)?;
            Ok(message)
        })
    }

    /// Responder: takes message 1, makes message 2.
    ///
    /// # Errors
    /// Any [`HandshakeError`].
    pub fn answer(&mut self, message1: &[u8], attester: &mut impl Attester) -> Result<Vec<u8>, HandshakeError> {
        self.step(State::AwaitingProof, |this, noise| {
            let payload = noise.read_tokens(message1)?;
            noise.read_payload(payload)?;
            let mut message = Vec::new();
            noise.write_tokens(&mut message)?;
            let (payload, mine) = own_identity(noise, attester)?;
            noise.write_payload(&payload, &mut message)?;
            this.mine = Some(mine);
            Ok(message)
        })
    }

    /// Initiator: takes message 2, appraises the responder, makes message 3.
    ///
    /// # Errors
    /// Any [`HandshakeError`].
    pub fn prove(
        &mut self,
        message2: &[u8],
        attester: &mut impl Attester,
    ) -> Result<(Vec<u8>, Established), HandshakeError> {
        self.step(State::Open, |this, noise| {
            let peer = peer_identity(noise, message2, this.policy.selection)?;
            let mut message = Vec::new();
            noise.write_tokens(&mut message)?;
            let (payload, mine) = own_identity(noise, attester)?;
            this.policy.check(&peer, &mine).map_err(HandshakeError::Peer)?;
            noise.write_payload(&payload, &mut message)?;
            Ok((message, peer))
        })
        .and_then(|(message, peer)| Ok((message, self.established(peer)?)))
    }

    /// Responder: takes message 3 and appraises the initiator.
    ///
    /// # Errors
    /// Any [`HandshakeError`].
    pub fn accept(&mut self, message3: &[u8]) -> Result<Established, HandshakeError> {
        let peer = self.step(State::Open, |this, noise| {
            let peer = peer_identity(noise, message3, this.policy.selection)?;
            let mine = this.mine.as_ref().ok_or(NoiseError::OutOfTurn)?;
            this.policy.check(&peer, mine).map_err(HandshakeError::Peer)?;
            Ok(peer)
        })?;
        self.established(peer)
    }

    /// Does one step of the table. The Noise state is put back only when all went well, so that a failed handshake
    /// cannot be taken up again.
    fn step<T>(
        &mut self,
        to: State,
        work: impl FnOnce(&mut Self, &mut Handshake) -> Result<T, HandshakeError>,
    ) -> Result<T, HandshakeError> {
        let from = core::mem::replace(&mut self.state, State::Closed);
        let noise = self.noise.take();
        let (true, Some(mut noise)) = (from.may_become(self.role, to), noise) else {
            return Err(HandshakeError::Transition { role: self.role, from, to });
        };
        let done = work(self, &mut noise)?;
        self.noise = Some(noise);
        self.state = to;
        Ok(done)
    }

    fn established(&mut self, peer: VerifiedIdentity) -> Result<Established, HandshakeError> {
        let noise = self.noise.take().ok_or(NoiseError::OutOfTurn)?;
        Ok(Established { session: noise.split()?, peer })
    }
}

fn peer_identity(
    noise: &mut Handshake,
    message: &[u8],
    selection: crate::identity::PcrSet,
) -> Result<VerifiedIdentity, HandshakeError> {
    let sealed = noise.read_tokens(message)?;
    let extra = extra_data(noise.transcript());
    let payload = noise.read_payload(sealed)?;
    let identity = AttestedIdentity::decode(&payload).map_err(HandshakeError::PeerIdentity)?;
    verify(&identity, &extra, Some(selection)).map_err(HandshakeError::Peer)
}

/// Our quote over the transcript as it stands. It is checked as a peer would check it: a quote that is of no use is
/// better found here than reported by nobody at the other end.
fn own_identity(
    noise: &Handshake,
    attester: &mut impl Attester,
) -> Result<(Vec<u8>, VerifiedIdentity), HandshakeError> {
    let extra = extra_data(noise.transcript());
    let identity = attester.quote(&extra).map_err(HandshakeError::Attester)?;
    let mine = verify(&identity, &extra, None).map_err(HandshakeError::OwnQuote)?;
    let bytes = identity.encode().map_err(HandshakeError::OwnIdentity)?;
    Ok((bytes, mine))
}
