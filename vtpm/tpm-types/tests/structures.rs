//! Wire structures: known bytes, response codes of malformed fields, and round trips.

use bulla_tpm_types::{
    Attest, Attested, AuthCommand, ClockInfo, CreationData, Data, Digest, DigestValues, EccParms, ErrorKind, HashAlg,
    List, Marshal, Name, ObjectAttributes, PcrSelection, PcrSelectionList, Public, PublicKind, Reader, SensitiveCreate,
    SessionAttributes, Signature, StartupType, Symmetric, TkCreation, Unmarshal, alg, command, hash, rc, response, rh,
    templates,
};
use proptest::prelude::*;

fn unhex(s: &str) -> Vec<u8> {
    let digits: Vec<u8> = s.chars().filter_map(|c| c.to_digit(16)).map(|d| d as u8).collect();
    digits.chunks(2).map(|d| d[0] << 4 | d[1]).collect()
}

/// TPM2B_PUBLIC of the L-2 template, assembled by hand from tables B.2 and 12.2 of the two specifications.
#[test]
fn the_ek_template_is_the_profiles() {
    let want = unhex(
        "0023 000b 000300b2 0020 837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa \
         0006 0080 0043 0010 0003 0010 \
         0020 0000000000000000000000000000000000000000000000000000000000000000 \
         0020 0000000000000000000000000000000000000000000000000000000000000000",
    );
    assert_eq!(templates::ek_p256().to_vec(), want);
}

#[test]
fn the_ak_template_is_restricted_ecdsa() {
    let want = unhex("0023 000b 00050472 0000 0010 0018 000b 0003 0010 0000 0000");
    assert_eq!(templates::ak_p256().to_vec(), want);
}

#[test]
fn commands_have_the_bytes_of_part_3() {
    assert_eq!(command::startup(StartupType::Clear), unhex("8001 0000000c 00000144 0000"));
    assert_eq!(command::pcr_reset(16), unhex("8002 0000001b 0000013d 00000010 00000009 40000009 0000 01 0000"));
    let selection = List::from_slice(&[PcrSelection::new(HashAlg::Sha256, &[0, 9, 23])]).expect("room");
    assert_eq!(command::pcr_read(&selection), unhex("8001 00000014 0000017e 00000001 000b 03 010280"));
}

#[test]
fn a_name_is_the_hash_of_the_public_area() {
    let ak = templates::ak_p256();
    let name = ak.name();
    assert_eq!(name[..2], [0, 0x0b]);
    assert_eq!(name[2..], *hash::digest(HashAlg::Sha256, &[&ak.to_vec()]).as_bytes());
    assert_eq!(Public { name_alg: None, ..ak }.name(), Name::EMPTY);
}

fn kind<'a, T: Unmarshal<'a> + std::fmt::Debug>(bytes: &'a [u8]) -> (ErrorKind, usize) {
    let e = T::from_bytes(bytes).expect_err("malformed");
    (e.kind, e.offset)
}

#[test]
fn malformed_fields_have_the_response_code_of_part_2() {
    let public = templates::ek_p256().to_vec();
    let patched = |at: usize, b: &[u8]| {
        let mut bytes = public.clone();
        bytes[at..at + b.len()].copy_from_slice(b);
        bytes
    };
    assert_eq!(kind::<Public>(&patched(0, &[0, 0x24])), (ErrorKind::Type, 0));
    assert_eq!(kind::<Public>(&patched(2, &[0, 0x24])), (ErrorKind::Hash, 2));
    assert_eq!(kind::<Public>(&patched(4, &[0x80])), (ErrorKind::ReservedBits, 4));
    assert_eq!(kind::<Public>(&patched(8, &[0, 65])), (ErrorKind::Size, 8));
    assert_eq!(kind::<Public>(&patched(42, &[0, 0x13])), (ErrorKind::Symmetric, 42));
    assert_eq!(kind::<Public>(&patched(44, &[0, 0x81])), (ErrorKind::Value, 44));
    assert_eq!(kind::<Public>(&patched(46, &[0, 0x0b])), (ErrorKind::Mode, 46));
    assert_eq!(kind::<Public>(&patched(48, &[0, 0x14, 0, 0x0b])), (ErrorKind::Scheme, 48));
    assert_eq!(kind::<Public>(&patched(50, &[0, 0x99])), (ErrorKind::Curve, 50));
    assert_eq!(kind::<Public>(&patched(52, &[0, 0x99])), (ErrorKind::Kdf, 52));
    assert_eq!(kind::<Public>(&public[..public.len() - 1]).0, ErrorKind::Insufficient);
    assert_eq!(kind::<PcrSelection>(&[0, 0x0b, 2, 0, 0]), (ErrorKind::Value, 2));
    assert_eq!(kind::<PcrSelectionList>(&[0, 0, 0, 5]), (ErrorKind::Size, 0));
    assert_eq!(kind::<DigestValues>(&[0xff, 0xff, 0xff, 0xff]), (ErrorKind::Size, 0));
    assert_eq!(kind::<SessionAttributes>(&[0x08]), (ErrorKind::ReservedBits, 0));
    assert_eq!(kind::<Attest>(&[0xff, b'T', b'C', b'H']), (ErrorKind::Value, 0));
    assert_eq!(kind::<Signature>(&[0, 0x1b]), (ErrorKind::Scheme, 0));
    assert_eq!(kind::<TkCreation>(&[0x80, 0x22]), (ErrorKind::Tag, 0));
    assert_eq!(kind::<Digest>(&[0, 1, 7, 7]), (ErrorKind::Size, 3));
    assert_eq!(ErrorKind::Curve.rc(), rc::CURVE);
}

#[test]
fn response_codes_name_parameter_handle_and_session() {
    assert_eq!(rc::SIZE.parameter(1).0, 0x1d5);
    assert_eq!(rc::HANDLE.handle(1).0, 0x18b);
    assert_eq!(rc::AUTH_FAIL.session(1).0, 0x98e);
    assert_eq!(rc::INITIALIZE.parameter(1).0, 0x100);
    assert_eq!(rc::SIZE.parameter(3).base(), rc::SIZE);
    assert_eq!(rc::AUTH_FAIL.session(2).to_string(), "TPM_RC 0xa8e (session 2)");
}

#[test]
fn responses_are_checked_from_header_to_last_byte() {
    use response::ResponseError as E;
    let ok = unhex("8001 0000000c 00000000 0000");
    assert!(response::parse_get_random(&ok).expect("empty").is_empty());
    assert_eq!(response::parse_empty(&unhex("8001 0000000a 00000100")), Err(E::Tpm(rc::INITIALIZE)));
    assert_eq!(response::parse_empty(&unhex("8001 0000000b 00000000")), Err(E::Size { said: 11, got: 10 }));
    assert_eq!(response::parse_empty(&unhex("8003 0000000a 00000000")), Err(E::Tag(0x8003)));
    assert!(matches!(response::parse_empty(&ok), Err(E::Malformed(e)) if e.kind == ErrorKind::Size));
    let sessions = unhex("8002 00000013 00000000 00000000 0000 01 0000");
    assert_eq!(response::parse_empty(&sessions), Ok(()));
    let huge = unhex("8002 0000000e 00000000 ffffffff");
    assert!(matches!(response::parse_empty(&huge), Err(E::Malformed(e)) if e.kind == ErrorKind::Insufficient));
}

fn any_alg() -> impl Strategy<Value = HashAlg> {
    prop::sample::select(HashAlg::ALL.to_vec())
}

fn any_selection() -> impl Strategy<Value = PcrSelectionList> {
    prop::collection::vec((any_alg(), any::<[u8; 3]>()), 0..=4).prop_map(|v| {
        let items: Vec<_> = v.into_iter().map(|(alg, select)| PcrSelection { alg, select }).collect();
        List::from_slice(&items).expect("at most four")
    })
}

fn round_trip<T: Marshal + for<'a> Unmarshal<'a> + PartialEq + std::fmt::Debug>(v: &T) {
    let bytes = v.to_vec();
    assert_eq!(&T::from_bytes(&bytes).expect("round trip"), v);
    for end in 0..bytes.len() {
        assert!(T::from_bytes(&bytes[..end]).is_err(), "cut at {end}");
    }
}

/// Reads `T` from any bytes; what is accepted must marshal to the same bytes.
fn canonical<'a, T: Marshal + Unmarshal<'a>>(bytes: &'a [u8]) {
    let mut r = Reader::new(bytes);
    if let Ok(v) = T::unmarshal(&mut r) {
        assert_eq!(v.to_vec(), bytes[..r.offset()]);
    }
}

proptest! {
    #[test]
    fn attest_round_trip(
        signer in prop::collection::vec(any::<u8>(), 0..=68), extra in prop::collection::vec(any::<u8>(), 0..=66),
        clock: u64, reset_count: u32, restart_count: u32, safe: bool, firmware_version: u64,
        pcr_select in any_selection(), digest in prop::collection::vec(any::<u8>(), 0..=64), which in 0..8,
    ) {
        let clock_info = ClockInfo { clock, reset_count, restart_count, safe };
        let name = Name::new(&signer).expect("fits");
        let d = Digest::new(&digest).expect("fits");
        let attested = match which {
            0 => Attested::Certify { name, qualified_name: name },
            1 => Attested::CommandAudit { audit_counter: clock, digest_alg: alg::SHA256, audit_digest: d,
                command_digest: d },
            2 => Attested::SessionAudit { exclusive: safe, session_digest: d },
            3 => Attested::Time { time: bulla_tpm_types::TimeInfo { time: clock, clock_info }, firmware_version },
            4 => Attested::Creation { object_name: name, creation_hash: d },
            5 => Attested::Nv { index_name: name, offset: 3, contents: digest.clone() },
            6 => Attested::NvDigest { index_name: name, nv_digest: d },
            _ => Attested::Quote { pcr_select, pcr_digest: d },
        };
        round_trip(&Attest { qualified_signer: name, extra_data: Data::new(&extra).expect("fits"), clock_info,
            firmware_version, attested });
        round_trip(&CreationData { pcr_select, pcr_digest: d, locality: bulla_tpm_types::Locality::ZERO,
            parent_name_alg: None, parent_name: name, parent_qualified_name: name, outside_info: Data::EMPTY });
        round_trip(&TkCreation { tag: 0x8021, hierarchy: rh::OWNER, digest: d });
        round_trip(&AuthCommand { handle: rh::PW, nonce: d, attributes: SessionAttributes::AUDIT, hmac: d });
    }

    #[test]
    fn any_bytes_are_refused_or_canonical(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        canonical::<Public>(&bytes);
        canonical::<Attest>(&bytes);
        canonical::<Signature>(&bytes);
        canonical::<CreationData>(&bytes);
        canonical::<DigestValues>(&bytes);
        canonical::<PcrSelectionList>(&bytes);
        canonical::<AuthCommand>(&bytes);
        canonical::<SensitiveCreate<'_>>(&bytes);
        let _ = response::parse_quote(&bytes);
        let _ = response::parse_create_primary(&bytes);
        let _ = response::parse_capability_properties(&bytes);
    }

    /// Valid public areas with some bytes changed reach further than random bytes do.
    #[test]
    fn changed_public_areas_are_refused_or_canonical(
        changes in prop::collection::vec((0usize..122, any::<u8>()), 1..4), attributes: u32, kind in 0..4,
    ) {
        let mut public = templates::ek_p256();
        public.attributes = ObjectAttributes::from_bits(attributes & 0x000f_0cf6);
        let unique = Digest::new(&[5; 32]).expect("fits");
        match kind {
            0 => public.kind = PublicKind::SymCipher { sym: Symmetric::AES_128_CFB, unique },
            1 => public.kind = PublicKind::KeyedHash { scheme: bulla_tpm_types::KeyedHashScheme::Hmac(HashAlg::Sha1), unique },
            2 => public.kind = PublicKind::Rsa { parms: bulla_tpm_types::RsaParms { symmetric: Symmetric::Null,
                scheme: bulla_tpm_types::AsymScheme::Rsaes, key_bits: 2048, exponent: 0 },
                unique: bulla_tpm_types::PublicKeyRsa::EMPTY },
            _ => {}
        }
        round_trip(&public);
        if let PublicKind::Ecc { parms, .. } = public.kind { round_trip::<EccParms>(&parms); }
        let mut bytes = public.to_vec();
        for (at, to) in changes {
            if let Some(b) = bytes.get_mut(at) { *b = to; }
        }
        canonical::<Public>(&bytes);
    }
}
