//! A TPM that is full of everything: each kind of thing has an end, and the state that holds them all is bounded.

use bulla_tpm_types::command::Builder;
use bulla_tpm_types::{Handle, NvKind, NvPublic, Rc, cc, command, rc, response, rh, templates};

use super::nv::{define, open, public};
use super::{code, load, run, started, unhex};
use crate::{MAX_STATE_SIZE, Tpm};

/// Octets that [`Tpm::volatile`] has at most; the README names them.
const MAX_VOLATILE: usize = 32 << 10;
/// More of anything than there may be.
const MANY: u32 = 4096;

/// Does something until the TPM refuses; answers how often it did, and with what it refused.
fn until_refused(tpm: &mut Tpm, mut next: impl FnMut(&mut Tpm, u32) -> Rc) -> (u32, Rc) {
    for n in 0..MANY {
        let code = next(tpm, n);
        if code != rc::SUCCESS {
            return (n, code);
        }
    }
    panic!("there is no end to it");
}

fn answer(tpm: &mut Tpm, command: &[u8]) -> Rc {
    let response = run(tpm, command);
    Rc(u32::from_be_bytes(response[6..10].try_into().expect("four octets")))
}

/// Fills NV with indices of `size` octets, numbered from `first`, each written whole.
fn fill_nv(tpm: &mut Tpm, first: u32, size: u16) -> u32 {
    let (count, end) = until_refused(tpm, |tpm, n| {
        let index = Handle(first + n);
        let made = define(tpm, &NvPublic { index, data_size: size, ..public(NvKind::Ordinary, open()) });
        for offset in (0..size).step_by(1024).take_while(|_| made == rc::SUCCESS) {
            let data = vec![0x5a; usize::from((size - offset).min(1024))];
            assert_eq!(code(tpm, &command::nv_write(rh::OWNER, index, &data, offset)), rc::SUCCESS);
        }
        made
    });
    assert_eq!(end, rc::NV_SPACE);
    count
}

#[test]
fn a_full_tpm_has_a_bounded_state() {
    let mut tpm = started();
    let empty = (tpm.permanent().len(), tpm.volatile().len());
    // NV: large indices, then ever smaller ones into what is left.
    let large = fill_nv(&mut tpm, 0x0100_0000, 2048);
    let small = fill_nv(&mut tpm, 0x0110_0000, 8);
    assert!(large > 50, "{large} large and {small} small indices");
    // Persistent objects, of the largest elliptic curve keys.
    let key = load(&mut tpm, rh::OWNER, &templates::ek_p256()).handle;
    let (persistent, end) = until_refused(&mut tpm, |tpm, n| {
        let to = Handle(0x8100_0000 + n).0;
        let evict = Builder::with_empty_auth(cc::EVICT_CONTROL, &[rh::OWNER, key], 1).params(|w| w.u32(to));
        answer(tpm, &evict.build())
    });
    assert_eq!((persistent, end), (16, rc::NV_SPACE));
    // Sessions, loaded and saved.
    let nonce = "0010 01010101010101010101010101010101";
    let start = unhex(&format!("8001 0000002b 00000176 40000007 40000007 {nonce} 0000 01 0010 000d"));
    let (sessions, end) = until_refused(&mut tpm, |tpm, _| {
        let response = run(tpm, &start);
        match response::parse(&response, true) {
            Ok(r) => answer(tpm, &Builder::new(cc::CONTEXT_SAVE, &[r.handle.expect("a session")]).build()),
            Err(response::ResponseError::Tpm(code)) => code,
            Err(e) => panic!("{e}"),
        }
    });
    assert_eq!((sessions, end), (64, rc::SESSION_HANDLES));
    for n in 0..8 {
        let flush = Builder::new(cc::FLUSH_CONTEXT, &[]).params(|w| w.u32(0x0300_0000 + n)).build();
        assert_eq!(answer(&mut tpm, &flush), rc::SUCCESS);
    }
    let (loaded, end) = until_refused(&mut tpm, |tpm, _| answer(tpm, &start));
    assert!(loaded == 8 && matches!(end, rc::SESSION_MEMORY | rc::SESSION_HANDLES), "{loaded} {end:?}");
    // Commitments wrap around instead of ending; sequences take the slots that are left.
    for _ in 0..300 {
        assert_eq!(answer(&mut tpm, &unhex("8001 0000000c 0000018e 0005")), rc::SUCCESS);
    }
    let (sequences, end) = until_refused(&mut tpm, |tpm, _| answer(tpm, &command::hash_sequence_start(None)));
    assert_eq!((sequences, end), (7, rc::OBJECT_MEMORY));

    let (permanent, volatile) = (tpm.permanent(), tpm.volatile());
    println!("{empty:?} octets when empty, ({}, {}) when full", permanent.len(), volatile.len());
    assert!(permanent.len() <= MAX_STATE_SIZE, "{}", permanent.len());
    assert!(volatile.len() <= MAX_VOLATILE, "{}", volatile.len());
    // Nothing grows when what is full is asked for more.
    assert_eq!(fill_nv(&mut tpm, 0x0120_0000, 8), 0);
    assert_eq!(answer(&mut tpm, &start), end_of_sessions());
    assert_eq!(tpm.permanent().len(), permanent.len());
}

/// What a 65th session is refused with.
fn end_of_sessions() -> Rc {
    rc::SESSION_MEMORY
}
