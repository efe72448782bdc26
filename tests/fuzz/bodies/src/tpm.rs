//! The structures on a TPM's wire.

use bulla_tpm_types::response;
use bulla_tpm_types::{
    AlgId, AsymScheme, Attest, AuthCommand, AuthResponse, ClockInfo, CreationData, Data, Digest, DigestValues,
    EccParms, EccPoint, Ha, Handle, HashAlg, KdfScheme, KeyedHashScheme, Marshal, Name, ObjectAttributes,
    PcrSelectionList, Public, Reader, RsaParms, SensitiveCreate, SessionAttributes, Signature, Symmetric, TimeInfo,
    TkCreation, Unmarshal,
};

/// What unmarshals marshals to the same bytes. Answers whether all bytes were one such structure.
fn canonical<'a, T: Unmarshal<'a> + Marshal>(bytes: &'a [u8]) -> bool {
    let mut reader = Reader::new(bytes);
    let Ok(value) = T::unmarshal(&mut reader) else { return false };
    assert_eq!(value.to_vec(), bytes[..bytes.len() - reader.remaining()]);
    assert_eq!(T::from_bytes(bytes).is_ok(), reader.is_empty());
    reader.is_empty()
}

/// Every structure of the TPM's wire, and every response as a client reads it, from the same bytes. Answers whether they
/// were any of them.
pub fn tpm_types(bytes: &[u8]) -> bool {
    if let Ok(public) = Public::from_bytes(bytes) {
        assert!(matches!(public.name().as_bytes().len(), 0 | 22 | 34 | 50 | 66));
    }
    let known = [
        canonical::<AlgId>(bytes),
        canonical::<AsymScheme>(bytes),
        canonical::<Attest>(bytes),
        canonical::<AuthCommand>(bytes),
        canonical::<AuthResponse>(bytes),
        canonical::<ClockInfo>(bytes),
        canonical::<CreationData>(bytes),
        canonical::<Data>(bytes),
        canonical::<Digest>(bytes),
        canonical::<DigestValues>(bytes),
        canonical::<EccParms>(bytes),
        canonical::<EccPoint>(bytes),
        canonical::<Ha>(bytes),
        canonical::<Handle>(bytes),
        canonical::<HashAlg>(bytes),
        canonical::<KdfScheme>(bytes),
        canonical::<KeyedHashScheme>(bytes),
        canonical::<Name>(bytes),
        canonical::<ObjectAttributes>(bytes),
        canonical::<PcrSelectionList>(bytes),
        canonical::<Public>(bytes),
        canonical::<RsaParms>(bytes),
        canonical::<SensitiveCreate<'_>>(bytes),
        canonical::<SessionAttributes>(bytes),
        canonical::<Signature>(bytes),
        canonical::<Symmetric>(bytes),
        canonical::<TimeInfo>(bytes),
        canonical::<TkCreation>(bytes),
    ];
    known.contains(&true) | responses(bytes)
}

fn responses(bytes: &[u8]) -> bool {
    let quote = response::parse_quote(bytes);
    if let Ok(quote) = &quote {
        assert_eq!(quote.attest.to_vec(), quote.attest_bytes);
    }
    let properties = response::parse_capability_properties(bytes);
    if let Ok((_, properties)) = &properties {
        assert!(properties.len() <= bytes.len() / 8);
    }
    let known = [
        quote.is_ok(),
        properties.is_ok(),
        response::parse_empty(bytes).is_ok(),
        response::parse_get_random(bytes).is_ok(),
        response::parse_create_primary(bytes).is_ok(),
        response::parse_read_public(bytes).is_ok(),
        response::parse_pcr_read(bytes).is_ok(),
        response::parse_digest_values(bytes).is_ok(),
        response::parse_hash(bytes).is_ok(),
        response::parse_handle(bytes).is_ok(),
        response::parse_read_clock(bytes).is_ok(),
        response::parse_capability_pcrs(bytes).is_ok(),
    ];
    known.contains(&true)
}
