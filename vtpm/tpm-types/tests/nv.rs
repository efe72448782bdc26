//! NV Indexes: known bytes, Names, and round trips.

use bulla_tpm_types::{
    Digest, ErrorKind, Handle, HashAlg, Marshal, NvAttributes, NvKind, NvPin, NvPublic, Unmarshal, command, hash,
    response, rh,
};
use proptest::prelude::*;

/// Bits that TPMA_NV has no meaning for.
const RESERVED: u32 = 0x01f0_0300;

fn public() -> NvPublic {
    NvPublic {
        index: Handle(0x01c0_0002),
        name_alg: HashAlg::Sha256,
        attributes: NvAttributes::OWNER_READ | NvAttributes::OWNER_WRITE | NvKind::Counter.attributes(),
        auth_policy: Digest::EMPTY,
        data_size: 8,
    }
}

#[test]
fn the_public_area_has_the_bytes_of_part_2() {
    let bytes = [0x01, 0xc0, 0, 2, 0, 0x0b, 0, 2, 0, 0x12, 0, 0, 0, 8];
    assert_eq!(public().to_vec(), bytes);
    assert_eq!(public().attributes.kind(), Some(NvKind::Counter));
    let name = public().name();
    assert_eq!((&name[..2], &name[2..]), (&[0, 0x0b][..], hash::digest(HashAlg::Sha256, &[&bytes]).as_bytes()));
    // Another state is another Name.
    let written = NvPublic { attributes: public().attributes | NvAttributes::WRITTEN, ..public() };
    assert_ne!(written.name(), name);
    let define = command::nv_define_space(rh::OWNER, b"pw", &public());
    assert!(define.ends_with(&[&[0, 2, b'p', b'w', 0, 14][..], &bytes].concat()));
}

#[test]
fn malformed_fields_are_errors_of_their_kind() {
    let kind = |at: usize, byte: u8| {
        let mut bytes = public().to_vec();
        bytes[at] = byte;
        NvPublic::from_bytes(&bytes).expect_err("malformed").kind
    };
    assert_eq!(kind(0, 0x81), ErrorKind::Value);
    assert_eq!(kind(5, 0x99), ErrorKind::Hash);
    assert_eq!(kind(6, 0x01), ErrorKind::ReservedBits);
    assert_eq!(kind(11, 65), ErrorKind::Size);
    assert!(response::parse_nv_read(&[]).is_err());
    assert!(response::parse_nv_read_public(&[0x80, 1, 0, 0, 0, 12, 0, 0, 0, 0, 0xff, 0xff]).is_err());
}

proptest! {
    #[test]
    fn public_areas_round_trip(
        index in 0u32..0x0100_0000, alg in prop::sample::select(&HashAlg::ALL[..]), attributes: u32, data_size: u16,
        policy in prop::collection::vec(any::<u8>(), 0..=64),
    ) {
        let public = NvPublic {
            index: Handle(0x0100_0000 | index),
            name_alg: alg,
            attributes: NvAttributes::from_bits(attributes & !RESERVED),
            auth_policy: Digest::new(&policy).expect("fits"),
            data_size,
        };
        prop_assert_eq!(NvPublic::from_bytes(&public.to_vec()).expect("valid"), public);
        prop_assert_eq!(public.name().len(), 2 + alg.size());
    }

    #[test]
    fn whatever_is_read_is_written_the_same(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        if let Ok(public) = NvPublic::from_bytes(&bytes) {
            prop_assert_eq!(public.to_vec(), bytes.clone());
        }
        if let Ok(pin) = NvPin::from_bytes(&bytes) {
            prop_assert_eq!(pin.to_vec(), bytes);
        }
    }
}
