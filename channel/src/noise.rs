//! The handshake `Noise_XX_25519_ChaChaPoly_SHA256` of the Noise Protocol Framework, revision 34.
//!
//! ```text
//! -> e
//! <- e, ee, s, es      payload: the responder's identity
//! -> s, se             payload: the initiator's identity
//! ```
//!
//! A message is written (and read) in two halves, tokens and payload, because the payload holds a quote over the
//! transcript hash as it stands between the two. The first message carries no payload: nothing is sent before there
//! is a key.
//!
//! Every Diffie-Hellman result is checked for the all-zero output that low-order points give. Any error ends the
//! handshake for good.
#![forbid(unsafe_code)]

use alloc::vec::Vec;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use crate::aead::{Aead, TAG_BYTES};

/// The protocol's name; at exactly 32 bytes it is its own initial hash (Noise, section 5.2).
pub const PROTOCOL: &[u8; 32] = b"Noise_XX_25519_ChaChaPoly_SHA256";

const KEY_BYTES: usize = 32;

/// Which end of the channel this is. The initiator speaks first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Writes the first message and the region's header.
    Initiator,
    /// Answers.
    Responder,
}

/// Why a handshake ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoiseError {
    /// A step was asked for that is not the next one, or the handshake had already ended.
    #[error("handshake step out of turn")]
    OutOfTurn,
    /// A message ends before the token named.
    #[error("handshake message {message} ends inside its {token}")]
    Truncated {
        /// Number of the message, from 1.
        message: u8,
        /// What was cut.
        token: &'static str,
    },
    /// A ciphertext does not authenticate.
    #[error("handshake message {message}: {token} does not authenticate")]
    Decrypt {
        /// Number of the message, from 1.
        message: u8,
        /// Which ciphertext.
        token: &'static str,
    },
    /// A Diffie-Hellman result is all zeros: the peer's key is a low-order point.
    #[error("handshake message {message}: Diffie-Hellman output is zero")]
    ZeroDh {
        /// Number of the message, from 1.
        message: u8,
    },
    /// The peer sent one of our own public keys back.
    #[error("handshake message {message}: the peer presents our own key")]
    Reflected {
        /// Number of the message, from 1.
        message: u8,
    },
    /// The first message carries a payload, which this protocol does not allow.
    #[error("handshake message 1 carries {len} bytes of early data")]
    EarlyData {
        /// Bytes found.
        len: usize,
    },
    /// The payload is too long for the cipher.
    #[error("handshake payload too long")]
    PayloadTooLong,
}

#[derive(Clone, Copy)]
enum Token {
    E,
    S,
    Ee,
    Es,
    Se,
}

/// Pattern XX (Noise, section 7.5).
const MESSAGES: [&[Token]; 3] = [&[Token::E], &[Token::E, Token::Ee, Token::S, Token::Es], &[Token::S, Token::Se]];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Half {
    Tokens,
    Payload,
}

/// The keys of an open session and the hash that names it.
pub struct Session {
    /// Key of the records the initiator writes.
    pub initiator_key: Zeroizing<[u8; KEY_BYTES]>,
    /// Key of the records the responder writes.
    pub responder_key: Zeroizing<[u8; KEY_BYTES]>,
    /// The final transcript hash, equal on both sides and unique to the session.
    pub transcript: [u8; 32],
}

impl core::fmt::Debug for Session {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Session").field("transcript", &self.transcript).finish_non_exhaustive()
    }
}

/// One side of a handshake in progress.
pub struct Handshake {
    role: Role,
    symmetric: Symmetric,
    s: StaticSecret,
    e: StaticSecret,
    rs: Option<PublicKey>,
    re: Option<PublicKey>,
    /// Index of the current message, and which half of it comes next; `None` after a failure.
    next: Option<(usize, Half)>,
}

impl core::fmt::Debug for Handshake {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Handshake").field("role", &self.role).field("next", &self.next).finish_non_exhaustive()
    }
}

impl Handshake {
    /// Begins a handshake. `static_key` and `ephemeral_key` are 32 random bytes each, never used before.
    #[must_use]
    pub fn new(
        role: Role,
        prologue: &[u8],
        static_key: &Zeroizing<[u8; KEY_BYTES]>,
        ephemeral_key: &Zeroizing<[u8; KEY_BYTES]>,
    ) -> Self {
        let mut symmetric = Symmetric::new();
        symmetric.mix_hash(prologue);
        Self {
            role,
            symmetric,
            s: StaticSecret::from(**static_key),
            e: StaticSecret::from(**ephemeral_key),
            rs: None,
            re: None,
            next: Some((0, Half::Tokens)),
        }
    }

    /// Whether all three messages are done.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.next == Some((MESSAGES.len(), Half::Tokens))
    }

    /// The transcript hash `h` as it stands.
    #[must_use]
    pub const fn transcript(&self) -> &[u8; 32] {
        &self.symmetric.h
    }

    /// Appends the tokens of our next message to `out`.
    ///
    /// # Errors
    /// [`NoiseError::OutOfTurn`], [`NoiseError::ZeroDh`].
    pub fn write_tokens(&mut self, out: &mut Vec<u8>) -> Result<(), NoiseError> {
        let (index, tokens) = self.turn(Half::Tokens, true)?;
        for token in tokens {
            match token {
                Token::E => {
                    let e = PublicKey::from(&self.e);
                    out.extend_from_slice(e.as_bytes());
                    self.symmetric.mix_hash(e.as_bytes());
                }
                Token::S => {
                    let s = PublicKey::from(&self.s);
                    self.symmetric.encrypt_and_hash(s.as_bytes(), out)?;
                }
                dh => self.mix_dh(index, *dh)?,
            }
        }
        self.next = Some((index, Half::Payload));
        Ok(())
    }

    /// Appends the payload of our message, sealed where there is a key already, to `out`.
    ///
    /// # Errors
    /// [`NoiseError::OutOfTurn`], [`NoiseError::PayloadTooLong`], [`NoiseError::EarlyData`].
    pub fn write_payload(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), NoiseError> {
        let (index, _) = self.turn(Half::Payload, true)?;
        no_early_data(index, payload.len())?;
        self.symmetric.encrypt_and_hash(payload, out)?;
        self.next = Some((index + 1, Half::Tokens));
        Ok(())
    }

    /// Reads the tokens of the peer's next message and returns what follows them, for
    /// [`Handshake::read_payload`].
    ///
    /// # Errors
    /// Any [`NoiseError`].
    pub fn read_tokens<'m>(&mut self, message: &'m [u8]) -> Result<&'m [u8], NoiseError> {
        let (index, tokens) = self.turn(Half::Tokens, false)?;
        let mut rest = message;
        for token in tokens {
            match token {
                Token::E => {
                    let key = *take::<KEY_BYTES>(&mut rest, index, "ephemeral key")?;
                    self.symmetric.mix_hash(&key);
                    let key = PublicKey::from(key);
                    if key == PublicKey::from(&self.e) {
                        return Err(NoiseError::Reflected { message: number(index) });
                    }
                    self.re = Some(key);
                }
                Token::S => {
                    let sealed = take::<{ KEY_BYTES + TAG_BYTES }>(&mut rest, index, "static key")?;
                    let key = self
                        .symmetric
                        .decrypt_and_hash(sealed)
                        .ok_or(NoiseError::Decrypt { message: number(index), token: "static key" })?;
                    let key = <[u8; KEY_BYTES]>::try_from(key.as_slice())
                        .map_err(|_| NoiseError::Truncated { message: number(index), token: "static key" })?;
                    let key = PublicKey::from(key);
                    if key == PublicKey::from(&self.s) {
                        return Err(NoiseError::Reflected { message: number(index) });
                    }
                    self.rs = Some(key);
                }
                dh => self.mix_dh(index, *dh)?,
            }
        }
        self.next = Some((index, Half::Payload));
        Ok(rest)
    }

    /// Opens the payload of the peer's message; `sealed` is what [`Handshake::read_tokens`] returned.
    ///
    /// # Errors
    /// [`NoiseError::OutOfTurn`], [`NoiseError::Decrypt`], [`NoiseError::EarlyData`].
    pub fn read_payload(&mut self, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, NoiseError> {
        let (index, _) = self.turn(Half::Payload, false)?;
        no_early_data(index, sealed.len())?;
        let payload = self
            .symmetric
            .decrypt_and_hash(sealed)
            .ok_or(NoiseError::Decrypt { message: number(index), token: "payload" })?;
        self.next = Some((index + 1, Half::Tokens));
        Ok(payload)
    }

    /// Turns a finished handshake into keys (Noise, section 5.2, `Split`).
    ///
    /// # Errors
    /// [`NoiseError::OutOfTurn`] before the end.
    pub fn split(self) -> Result<Session, NoiseError> {
        if !self.is_finished() {
            return Err(NoiseError::OutOfTurn);
        }
        let (initiator_key, responder_key) = hkdf(&self.symmetric.ck, &[]);
        Ok(Session { initiator_key, responder_key, transcript: self.symmetric.h })
    }

    /// Takes the current step if it is `half` of a message that we write (or do not). It is put back by the caller
    /// on success only, so that a failed handshake stays failed.
    fn turn(&mut self, half: Half, writing: bool) -> Result<(usize, &'static [Token]), NoiseError> {
        let (index, expected) = self.next.take().ok_or(NoiseError::OutOfTurn)?;
        let ours = (index % 2 == 0) == (self.role == Role::Initiator);
        match MESSAGES.get(index) {
            Some(tokens) if expected == half && ours == writing => Ok((index, tokens)),
            _ => Err(NoiseError::OutOfTurn),
        }
    }

    fn mix_dh(&mut self, index: usize, token: Token) -> Result<(), NoiseError> {
        let initiator = self.role == Role::Initiator;
        let (ours, theirs) = match (token, initiator) {
            (Token::Ee, _) => (&self.e, self.re),
            (Token::Es, true) | (Token::Se, false) => (&self.e, self.rs),
            (Token::Es, false) | (Token::Se, true) => (&self.s, self.re),
            (Token::E | Token::S, _) => return Err(NoiseError::OutOfTurn),
        };
        let shared = ours.diffie_hellman(&theirs.ok_or(NoiseError::OutOfTurn)?);
        if !shared.was_contributory() {
            return Err(NoiseError::ZeroDh { message: number(index) });
        }
        self.symmetric.mix_key(shared.as_bytes());
        Ok(())
    }
}

fn number(index: usize) -> u8 {
    u8::try_from(index + 1).unwrap_or(u8::MAX)
}

fn no_early_data(index: usize, len: usize) -> Result<(), NoiseError> {
    if index == 0 && len != 0 { Err(NoiseError::EarlyData { len }) } else { Ok(()) }
}

fn take<'m, const N: usize>(rest: &mut &'m [u8], index: usize, token: &'static str) -> Result<&'m [u8; N], NoiseError> {
    let (head, tail) = rest.split_first_chunk().ok_or(NoiseError::Truncated { message: number(index), token })?;
    *rest = tail;
    Ok(head)
}

/// `SymmetricState` and `CipherState` (Noise, sections 5.1 and 5.2).
struct Symmetric {
    ck: Zeroizing<[u8; 32]>,
    h: [u8; 32],
    cipher: Option<(Aead, u64)>,
}

impl Symmetric {
    fn new() -> Self {
        Self { ck: Zeroizing::new(*PROTOCOL), h: *PROTOCOL, cipher: None }
    }

    fn mix_hash(&mut self, data: &[u8]) {
        self.h = Sha256::new().chain_update(self.h).chain_update(data).finalize().into();
    }

    fn mix_key(&mut self, input: &[u8]) {
        let (ck, key) = hkdf(&self.ck, input);
        self.ck = ck;
        self.cipher = Some((Aead::new(&key), 0));
    }

    fn encrypt_and_hash(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), NoiseError> {
        let start = out.len();
        out.extend_from_slice(plain);
        if let Some((aead, n)) = &mut self.cipher {
            let text = out.get_mut(start..).unwrap_or_default();
            let tag = aead.seal(*n, &self.h, text).ok_or(NoiseError::PayloadTooLong)?;
            out.extend_from_slice(&tag);
            *n += 1;
        }
        self.mix_hash(out.get(start..).unwrap_or_default());
        Ok(())
    }

    fn decrypt_and_hash(&mut self, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let plain = match &mut self.cipher {
            Some((aead, n)) => {
                let (text, tag) = sealed.split_last_chunk::<TAG_BYTES>()?;
                let mut text = Zeroizing::new(text.to_vec());
                aead.open(*n, &self.h, &mut text, tag)?;
                *n += 1;
                text
            }
            None => Zeroizing::new(sealed.to_vec()),
        };
        self.mix_hash(sealed);
        Some(plain)
    }
}

/// `HKDF(ck, input, 2)` (Noise, section 4.3).
fn hkdf(ck: &Zeroizing<[u8; 32]>, input: &[u8]) -> (Zeroizing<[u8; 32]>, Zeroizing<[u8; 32]>) {
    let temp = hmac(ck, &[input]);
    let first = hmac(&temp, &[&[1]]);
    let second = hmac(&temp, &[&*first, &[2]]);
    (first, second)
}

/// HMAC-SHA-256 (RFC 2104) of the concatenation of `parts`.
fn hmac(key: &Zeroizing<[u8; 32]>, parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    // A 32-byte key is padded to the 64-byte block by `new`'s own definition, so no error can arise.
    let mut block = Zeroizing::new([0_u8; 64]);
    block.iter_mut().zip(key.iter()).for_each(|(b, k)| *b = *k);
    let mut mac = Hmac::<Sha256>::new((&*block).into());
    for part in parts {
        mac.update(part);
    }
    Zeroizing::new(mac.finalize().into_bytes().into())
}
