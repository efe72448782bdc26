//! Our Noise XX against the crate `snow`, and against itself when something is wrong.
#![cfg(not(loom))]

use bulla_channel::Role;
use bulla_channel::noise::{Handshake, NoiseError};
use proptest::prelude::*;
use snow::{Builder, HandshakeState};
use zeroize::Zeroizing;

const PATTERN: &str = "Noise_XX_25519_ChaChaPoly_SHA256";
const PROLOGUE: &[u8] = b"bulla-channel-v1 and a channel id";
const INITIATOR: ([u8; 32], [u8; 32]) = ([0x11; 32], [0x22; 32]);
const RESPONDER: ([u8; 32], [u8; 32]) = ([0x33; 32], [0x44; 32]);

fn ours(role: Role) -> Handshake {
    let (s, e) = match role {
        Role::Initiator => INITIATOR,
        Role::Responder => RESPONDER,
    };
    Handshake::new(role, PROLOGUE, &Zeroizing::new(s), &Zeroizing::new(e))
}

fn theirs(role: Role) -> HandshakeState {
    let (s, e) = match role {
        Role::Initiator => INITIATOR,
        Role::Responder => RESPONDER,
    };
    let builder = Builder::new(PATTERN.parse().unwrap())
        .prologue(PROLOGUE)
        .unwrap()
        .local_private_key(&s)
        .unwrap()
        .fixed_ephemeral_key_for_testing_only(&e);
    match role {
        Role::Initiator => builder.build_initiator().unwrap(),
        Role::Responder => builder.build_responder().unwrap(),
    }
}

fn write(noise: &mut Handshake, payload: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    noise.write_tokens(&mut message).unwrap();
    noise.write_payload(payload, &mut message).unwrap();
    message
}

fn read(noise: &mut Handshake, message: &[u8]) -> Result<Vec<u8>, NoiseError> {
    let rest = noise.read_tokens(message)?;
    Ok(noise.read_payload(rest)?.to_vec())
}

fn snow_write(noise: &mut HandshakeState, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0; 4096];
    let len = noise.write_message(payload, &mut out).unwrap();
    out.truncate(len);
    out
}

fn snow_read(noise: &mut HandshakeState, message: &[u8]) -> Vec<u8> {
    let mut out = vec![0; 4096];
    let len = noise.read_message(message, &mut out).unwrap();
    out.truncate(len);
    out
}

#[test]
fn as_initiator_we_agree_with_snow_byte_for_byte() {
    let (mut us, mut snow, mut twin) = (ours(Role::Initiator), theirs(Role::Responder), theirs(Role::Initiator));
    let message1 = write(&mut us, b"");
    assert_eq!(message1, snow_write(&mut twin, b""));
    assert_eq!(snow_read(&mut snow, &message1), b"");
    let message2 = snow_write(&mut snow, b"responder's identity");
    assert_eq!(read(&mut us, &message2).unwrap(), b"responder's identity");
    snow_read(&mut twin, &message2);
    let message3 = write(&mut us, b"initiator's identity");
    assert_eq!(message3, snow_write(&mut twin, b"initiator's identity"));
    assert_eq!(snow_read(&mut snow, &message3), b"initiator's identity");
    assert_eq!(us.transcript(), snow.get_handshake_hash());
    let (initiator, responder) = snow.dangerously_get_raw_split();
    let session = us.split().unwrap();
    assert_eq!(*session.initiator_key, initiator);
    assert_eq!(*session.responder_key, responder);
}

#[test]
fn as_responder_we_agree_with_snow_byte_for_byte() {
    let (mut snow, mut us, mut twin) = (theirs(Role::Initiator), ours(Role::Responder), theirs(Role::Responder));
    let message1 = snow_write(&mut snow, b"");
    assert_eq!(read(&mut us, &message1).unwrap(), b"");
    snow_read(&mut twin, &message1);
    let message2 = write(&mut us, b"responder's identity");
    assert_eq!(message2, snow_write(&mut twin, b"responder's identity"));
    assert_eq!(snow_read(&mut snow, &message2), b"responder's identity");
    let message3 = snow_write(&mut snow, b"initiator's identity");
    assert_eq!(read(&mut us, &message3).unwrap(), b"initiator's identity");
    assert_eq!(us.transcript(), snow.get_handshake_hash());
    let (initiator, responder) = snow.dangerously_get_raw_split();
    let session = us.split().unwrap();
    assert_eq!(*session.initiator_key, initiator);
    assert_eq!(*session.responder_key, responder);
}

/// Up to the message the peer has to read: `(reader, message)` for messages 2 and 3.
fn until(message: usize) -> (Handshake, Vec<u8>) {
    let (mut initiator, mut responder) = (ours(Role::Initiator), ours(Role::Responder));
    let first = write(&mut initiator, b"");
    if message == 1 {
        return (responder, first);
    }
    read(&mut responder, &first).unwrap();
    let second = write(&mut responder, b"two");
    if message == 2 {
        return (initiator, second);
    }
    read(&mut initiator, &second).unwrap();
    (responder, write(&mut initiator, b"three"))
}

#[test]
fn every_flipped_bit_of_messages_2_and_3_is_refused() {
    for number in [2, 3] {
        let (_, message) = until(number);
        for byte in 0..message.len() {
            let (mut reader, mut changed) = until(number);
            changed[byte] ^= 1 << (byte % 8);
            assert!(matches!(read(&mut reader, &changed), Err(NoiseError::Decrypt { .. })));
        }
    }
}

#[test]
fn a_flipped_bit_of_message_1_makes_message_2_fail() {
    let (mut responder, mut message1) = until(1);
    message1[9] ^= 2;
    read(&mut responder, &message1).unwrap();
    let message2 = write(&mut responder, b"two");
    let (mut initiator, _) = until(2);
    assert!(matches!(read(&mut initiator, &message2), Err(NoiseError::Decrypt { message: 2, .. })));
}

#[test]
fn every_truncation_is_refused() {
    for number in [1, 2, 3] {
        let (_, message) = until(number);
        for len in 0..message.len() {
            let (mut reader, message) = until(number);
            assert!(matches!(
                read(&mut reader, &message[..len]),
                Err(NoiseError::Truncated { .. } | NoiseError::Decrypt { .. })
            ));
        }
    }
}

#[test]
fn low_order_points_are_refused_in_every_place() {
    // u = 0, u = 1, and a point of order 8 (RFC 7748 section 6.1 asks for the check; the values are the well-known
    // ones of small order on Curve25519).
    let order8 = "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800";
    let mut one = [0; 32];
    one[0] = 1;
    for point in [[0; 32], one, hex::decode(order8).unwrap().try_into().unwrap()] {
        let (mut responder, mut message1) = until(1);
        message1.copy_from_slice(&point);
        read(&mut responder, &message1).unwrap();
        assert_eq!(responder.write_tokens(&mut Vec::new()), Err(NoiseError::ZeroDh { message: 2 }));
        let (mut initiator, mut message2) = until(2);
        message2[..32].copy_from_slice(&point);
        assert_eq!(initiator.read_tokens(&message2).err(), Some(NoiseError::ZeroDh { message: 2 }));
    }
}

#[test]
fn our_own_ephemeral_key_sent_back_is_refused() {
    let (mut initiator, mut message2) = until(2);
    let message1 = write(&mut ours(Role::Initiator), b"");
    message2[..32].copy_from_slice(&message1);
    assert_eq!(initiator.read_tokens(&message2).err(), Some(NoiseError::Reflected { message: 2 }));
}

#[test]
fn our_own_static_key_sent_back_is_refused() {
    let same =
        |role| Handshake::new(role, PROLOGUE, &Zeroizing::new([0x55; 32]), &Zeroizing::new([role as u8 + 0x60; 32]));
    let (mut initiator, mut responder) = (same(Role::Initiator), same(Role::Responder));
    read(&mut responder, &write(&mut initiator, b"")).unwrap();
    let message2 = write(&mut responder, b"");
    assert_eq!(read(&mut initiator, &message2).err(), Some(NoiseError::Reflected { message: 2 }));
}

#[test]
fn early_data_is_neither_written_nor_read() {
    let (mut responder, mut message1) = until(1);
    message1.push(0);
    let early = NoiseError::EarlyData { len: 1 };
    assert_eq!(read(&mut responder, &message1).err(), Some(early));
    let mut initiator = ours(Role::Initiator);
    initiator.write_tokens(&mut Vec::new()).unwrap();
    assert_eq!(initiator.write_payload(&[0], &mut Vec::new()), Err(early));
}

#[test]
fn another_prologue_is_another_conversation() {
    let mut stranger =
        Handshake::new(Role::Responder, b"another channel", &Zeroizing::new(RESPONDER.0), &Zeroizing::new(RESPONDER.1));
    let mut initiator = ours(Role::Initiator);
    read(&mut stranger, &write(&mut initiator, b"")).unwrap();
    let message2 = write(&mut stranger, b"");
    assert!(matches!(read(&mut initiator, &message2), Err(NoiseError::Decrypt { message: 2, .. })));
}

#[test]
fn steps_out_of_turn_are_refused_and_end_the_handshake() {
    let mut initiator = ours(Role::Initiator);
    assert_eq!(initiator.read_tokens(&[0; 64]).err(), Some(NoiseError::OutOfTurn));
    assert_eq!(initiator.write_tokens(&mut Vec::new()), Err(NoiseError::OutOfTurn));
    let mut initiator = ours(Role::Initiator);
    write(&mut initiator, b"");
    assert_eq!(initiator.split().err(), Some(NoiseError::OutOfTurn));
}

proptest! {
    #[test]
    fn any_bytes_are_refused_without_panic(number in 1_usize..4, bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let (mut reader, _) = until(number);
        // 32 bytes are a well-formed first message, whatever they are.
        prop_assert_eq!(read(&mut reader, &bytes).is_ok(), number == 1 && bytes.len() == 32);
    }
}
