//! GetCapability: order, moreData, ends of lists.

use bulla_tpm_types::{Handle, Reader, cap, cc, command, ht, pt, pt_pcr, rc, response, rh};

use super::{code, load_ak, run, started};
use crate::{Tpm, command_name};

/// (moreData, the elements' bytes) of a list whose elements have `size` octets.
fn list(tpm: &mut Tpm, capability: u32, property: u32, count: u32, size: usize) -> (bool, Vec<Vec<u8>>) {
    let bytes = run(tpm, &command::get_capability(capability, property, count));
    let params = response::parse(&bytes, false).expect("a list").params.to_vec();
    let mut r = Reader::new(&params);
    let more = r.u8("moreData").expect("moreData") == 1;
    assert_eq!(r.u32("capability"), Ok(capability));
    let n = r.u32("count").expect("count") as usize;
    assert_eq!(r.remaining(), n * size);
    (more, r.rest().chunks(size).map(<[u8]>::to_vec).collect())
}

/// Capability, first property, octets of an element, and an element's number.
type List = (u32, u32, usize, fn(&[u8]) -> u32);

/// Every list that starts with a number: taken one at a time it is the same as taken at once, and ascending.
#[test]
fn lists_are_ascending_and_can_be_walked() {
    let mut tpm = started();
    load_ak(&mut tpm, rh::OWNER);
    load_ak(&mut tpm, rh::OWNER);
    let lists: [List; 8] = [
        (cap::ALGS, 0, 6, |e| u32::from(u16::from_be_bytes([e[0], e[1]]))),
        (cap::HANDLES, 0, 4, number),
        (cap::HANDLES, 0x4000_0000, 4, number),
        (cap::HANDLES, 0x8000_0000, 4, number),
        (cap::COMMANDS, 0, 4, |e| number(e) & 0xffff),
        (cap::TPM_PROPERTIES, 0, 8, number),
        (cap::PCR_PROPERTIES, 0, 8, number),
        (cap::ECC_CURVES, 0, 2, |e| u32::from(u16::from_be_bytes([e[0], e[1]]))),
    ];
    for (capability, from, size, key) in lists {
        let (more, all) = list(&mut tpm, capability, from, u32::MAX, size);
        assert!(!more && !all.is_empty());
        assert!(all.is_sorted_by(|a, b| key(a) < key(b)), "capability {capability}");
        let mut next = from;
        let mut walked = Vec::new();
        loop {
            let (more, mut one) = list(&mut tpm, capability, next, 1, size);
            assert_eq!(one.len(), 1);
            next = key(&one[0]) + 1;
            walked.append(&mut one);
            assert_eq!(more, walked.len() < all.len());
            if !more {
                break;
            }
        }
        assert_eq!(walked, all);
        assert_eq!(list(&mut tpm, capability, next, 5, size), (false, vec![]), "above the range");
        assert_eq!(list(&mut tpm, capability, from, 0, size), (true, vec![]), "none asked for");
    }
}

fn number(e: &[u8]) -> u32 {
    u32::from_be_bytes([e[0], e[1], e[2], e[3]])
}

#[test]
fn handles_are_listed_by_their_type() {
    let mut tpm = started();
    let handles = |tpm: &mut Tpm, kind: u8| list(tpm, cap::HANDLES, u32::from(kind) << 24, 99, 4).1.len();
    assert_eq!((handles(&mut tpm, ht::PCR), handles(&mut tpm, ht::TRANSIENT)), (24, 0));
    load_ak(&mut tpm, rh::OWNER);
    assert_eq!((handles(&mut tpm, ht::TRANSIENT), handles(&mut tpm, ht::PERMANENT)), (1, 7));
    for kind in [ht::NV_INDEX, ht::HMAC_SESSION, ht::POLICY_SESSION, ht::PERSISTENT] {
        assert_eq!(handles(&mut tpm, kind), 0);
    }
    assert_eq!(code(&mut tpm, &command::get_capability(cap::HANDLES, 0x7000_0000, 1)), rc::HANDLE.parameter(2));
}

#[test]
fn banks_are_sha1_sha256_and_sha384_whole() {
    let mut tpm = started();
    let bytes = run(&mut tpm, &command::get_capability_pcrs());
    let banks = response::parse_capability_pcrs(&bytes).expect("banks");
    let sizes: Vec<_> = banks.iter().map(|b| (b.alg.size(), b.iter().count())).collect();
    assert_eq!(sizes, [(20, 24), (32, 24), (48, 24), (64, 0)]);
    assert_eq!(code(&mut tpm, &command::get_capability(cap::PCRS, 1, 1)), rc::VALUE.parameter(2));
}

#[test]
fn commands_have_the_attributes_of_part_3() {
    let mut tpm = started();
    let (_, all) = list(&mut tpm, cap::COMMANDS, 0, 99, 4);
    let of = |code: u32| all.iter().map(|e| number(e)).find(|a| a & 0xffff == code).expect("a command") >> 16;
    assert_eq!(of(cc::PCR_EXTEND), 0x0240);
    assert_eq!(of(cc::CREATE_PRIMARY), 0x1200);
    assert_eq!(of(cc::EVENT_SEQUENCE_COMPLETE), 0x0540);
    assert_eq!(of(cc::HASH_SEQUENCE_START), 0x1000);
    assert_eq!(of(cc::QUOTE), 0x0200);
    assert!(all.iter().all(|e| command_name(number(e) & 0xffff).is_some()));
    assert_eq!((command_name(cc::QUOTE), command_name(0)), (Some("Quote"), None));
}

#[test]
fn properties_say_what_this_tpm_is() {
    let mut tpm = started();
    let property = |tpm: &mut Tpm, p| {
        let bytes = run(tpm, &command::get_capability(cap::TPM_PROPERTIES, p, 1));
        let (_, list) = response::parse_capability_properties(&bytes).expect("a list");
        list.first().copied().expect("one")
    };
    assert_eq!(property(&mut tpm, 0), (pt::FAMILY_INDICATOR, 0x322e_3000));
    assert_eq!(property(&mut tpm, pt::REVISION), (pt::REVISION, 159));
    assert_eq!(property(&mut tpm, pt::MANUFACTURER).1.to_be_bytes(), *b"BULA");
    assert_eq!(property(&mut tpm, pt::PCR_COUNT).1, 24);
    assert_eq!(property(&mut tpm, pt::HR_TRANSIENT_AVAIL).1, 8);
    assert_eq!(property(&mut tpm, pt::STARTUP_CLEAR).1, 0x8000_000f);
}

#[test]
fn pcr_properties_are_the_profiles() {
    let mut tpm = started();
    let mut select = |p: u32| list(&mut tpm, cap::PCR_PROPERTIES, p, 1, 8).1[0][5..].to_vec();
    assert_eq!(select(pt_pcr::SAVE), [0xff, 0xff, 0]);
    assert_eq!(select(pt_pcr::EXTEND_L0), [0xff, 0xff, 0x81]);
    assert_eq!(select(pt_pcr::RESET_L0), [0, 0, 0x81]);
    assert_eq!(select(pt_pcr::RESET_L2), [0, 0, 0xf1]);
    assert_eq!(select(pt_pcr::RESET_L4), [0, 0, 0x7e]);
    assert_eq!(select(pt_pcr::NO_INCREMENT), [0, 0, 0xe1]);
    assert_eq!(select(pt_pcr::DRTM_RESET), [0, 0, 0x7e]);
}

#[test]
fn unknown_capabilities_are_refused() {
    let mut tpm = started();
    assert_eq!(code(&mut tpm, &command::get_capability(0x77, 0, 1)), rc::VALUE.parameter(1));
    assert_eq!(list(&mut tpm, cap::PP_COMMANDS, 0, 9, 4), (false, vec![cc::PP_COMMANDS.to_be_bytes().to_vec()]));
    let always = cc::SET_COMMAND_CODE_AUDIT_STATUS.to_be_bytes().to_vec();
    assert_eq!(list(&mut tpm, cap::AUDIT_COMMANDS, 0, 9, 4), (false, vec![always]));
    assert_eq!(list(&mut tpm, cap::AUDIT_COMMANDS, 0x141, 9, 4), (false, vec![]));
    for kind in [0, 0x8000_0000] {
        assert_eq!(code(&mut tpm, &command::get_capability(cap::AUTH_POLICIES, kind, 9)), rc::VALUE.parameter(2));
    }
    // A handle type's list ends at the type's end.
    assert_eq!(list(&mut tpm, cap::HANDLES, Handle(0x00ff_ffff).0, 9, 4), (false, vec![]));
}
