//! The policies of the endorsement key templates are what the TCG EK Credential Profile says they are made of.

use bulla_tpm_types::{
    Digest, EccParms, Handle, HashAlg, Marshal, NvAttributes, NvPublic, Public, PublicKind, RsaParms, alg, cc, hash,
    rh, templates,
};

/// PolicyA: PolicySecret of the endorsement hierarchy, without a policyRef (Part 3, 23.4: two hashes).
fn policy_a(alg: HashAlg) -> Vec<u8> {
    let start = vec![0; alg.size()];
    let once = hash::digest(alg, &[&start, &cc::POLICY_SECRET.to_be_bytes(), &rh::ENDORSEMENT.to_vec()]);
    hash::digest(alg, &[once.as_bytes()]).as_bytes().to_vec()
}

/// PolicyB: PolicyA, or a policy that the owner of an NV Index of the profile's writes there.
fn policy_b(alg: HashAlg, index: u32) -> Vec<u8> {
    let a = policy_a(alg);
    let public = NvPublic {
        index: Handle(index),
        name_alg: alg,
        attributes: NvAttributes::WRITTEN
            | NvAttributes::NO_DA
            | NvAttributes::POLICY_READ
            | NvAttributes::AUTH_READ
            | NvAttributes::OWNER_READ
            | NvAttributes::PP_READ
            | NvAttributes::WRITE_ALL
            | NvAttributes::POLICY_WRITE,
        auth_policy: Digest::new(&a).unwrap(),
        // A TPMT_HA: the algorithm and the policy's digest.
        data_size: u16::try_from(2 + alg.size()).unwrap(),
    };
    let start = vec![0; alg.size()];
    let c = hash::digest(alg, &[&start, &cc::POLICY_AUTHORIZE_NV.to_be_bytes(), &public.name()]);
    hash::digest(alg, &[&start, &cc::POLICY_OR.to_be_bytes(), &a, c.as_bytes()]).as_bytes().to_vec()
}

#[test]
fn policies_are_made_of_what_the_profile_says() {
    assert_eq!(policy_a(HashAlg::Sha256), templates::EK_POLICY_A_SHA256);
    assert_eq!(policy_b(HashAlg::Sha256, 0x01c0_7f01), templates::EK_POLICY_B_SHA256);
    assert_eq!(policy_b(HashAlg::Sha384, 0x01c0_7f02), templates::EK_POLICY_B_SHA384);
    assert_eq!(policy_b(HashAlg::Sha512, 0x01c0_7f03), templates::EK_POLICY_B_SHA512);
}

/// In each template of the high range name algorithm, policy and the children's cipher are of one strength.
#[test]
fn the_high_range_is_of_one_strength() {
    let all: [fn() -> Public; 6] = [
        templates::ek_h1_rsa2048,
        templates::ek_h2_p256,
        templates::ek_h3_p384,
        templates::ek_h4_p521,
        templates::ek_h6_rsa3072,
        templates::ek_h7_rsa4096,
    ];
    for (template, (name_alg, aes)) in all.into_iter().zip([
        (HashAlg::Sha256, 128),
        (HashAlg::Sha256, 128),
        (HashAlg::Sha384, 256),
        (HashAlg::Sha512, 256),
        (HashAlg::Sha384, 256),
        (HashAlg::Sha384, 256),
    ]) {
        let template = template();
        assert_eq!(template.name_alg, Some(name_alg));
        assert_eq!(template.auth_policy.len(), name_alg.size());
        assert_eq!(template.attributes.bits(), 0x0003_00f2, "TPMA_OBJECT of the profile's table");
        let (PublicKind::Rsa { parms: RsaParms { symmetric, .. }, .. }
        | PublicKind::Ecc { parms: EccParms { symmetric, .. }, .. }) = template.kind
        else {
            panic!("{template:?}");
        };
        assert_eq!(symmetric, bulla_tpm_types::Symmetric::Aes { bits: aes, mode: alg::CFB });
    }
}
