//! The TPM: its engine, and the structures on its wire.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bulla_tpm_types::response::{self, ResponseError};
use bulla_tpm_types::{
    AlgId, AsymScheme, Attest, AuthCommand, AuthResponse, ClockInfo, CreationData, Data, Digest, DigestValues,
    EccParms, EccPoint, Ha, Handle, HashAlg, KdfScheme, KeyedHashScheme, Marshal, Name, ObjectAttributes,
    PcrSelectionList, Public, Reader, RsaParms, SensitiveCreate, SessionAttributes, Signature, StartupType, Symmetric,
    TimeInfo, TkCreation, Unmarshal, command, rc, st,
};
use bulla_vtpm::engine::{Clock, Entropy, EntropyError, MAX_RESPONSE_SIZE, Tpm};

use crate::script::Script;

/// Most steps taken of one input: enough to fill every slot, few enough to stay quick.
const MAX_STEPS: usize = 64;

/// Randomness that counts up, and a clock that the input moves.
#[derive(Clone, Default)]
struct Platform {
    counter: u8,
    now_ms: Arc<AtomicU64>,
}

impl Entropy for Platform {
    fn fill(&mut self, buf: &mut [u8]) -> Result<(), EntropyError> {
        for byte in buf {
            self.counter = self.counter.wrapping_add(1);
            *byte = self.counter;
        }
        Ok(())
    }
}

impl Clock for Platform {
    fn now_ms(&self) -> u64 {
        self.now_ms.load(Ordering::Relaxed)
    }
}

/// The engine, driven by a list of steps. A step is a byte, modulo 8, and what it needs:
///
/// - 0 to 3: `_TPM_Init`; `_TPM_Hash_Start`; `_TPM_Hash_Data` with a string; `_TPM_Hash_End`;
/// - 4: some seconds pass (16 bits);
/// - 5: a command as it is: locality, string;
/// - 6, 7: the same with its size field set right.
///
/// A string is a 16-bit length and that many bytes. The TPM is started first. Answers whether a command succeeded.
pub fn tpm_command(bytes: &[u8]) -> bool {
    let platform = Platform::default();
    let mut tpm = Tpm::manufacture(Box::new(platform.clone()), Box::new(platform.clone()));
    power_cycle(&mut tpm);
    let mut script = Script::new(bytes);
    let steps = (0..MAX_STEPS).map_while(|_| step(&mut tpm, &platform, &mut script));
    let successes = steps.filter(|success| *success).count();
    // Whatever was done to it: a TPM that is switched off and on works.
    power_cycle(&mut tpm);
    successes > 0
}

/// A TPM's state, permanent or volatile by the first byte's lowest bit.
///
/// 0: the rest is a permanent state. What loads is written as what loads again, the same, and starts.
/// 1: the rest are changes of a started TPM's volatile state, each an offset of 16 bits and a byte. What is restored answers commands.
///
/// Answers whether it was a state.
pub fn vtpm_state(bytes: &[u8]) -> bool {
    let Some((kind, rest)) = bytes.split_first() else { return false };
    let platform = Platform::default();
    let load = |state: &[u8]| Tpm::load(Box::new(platform.clone()), Box::new(platform.clone()), state);
    if kind & 1 == 0 {
        let Ok(mut tpm) = load(rest) else { return false };
        let written = tpm.permanent();
        let again = load(&written).expect("what was written by itself");
        assert_eq!(*again.permanent(), *written);
        tpm.init();
        check_response(&tpm.execute(0, &command::startup(StartupType::State)));
        check_response(&tpm.execute(0, &command::startup(StartupType::Clear)));
        return true;
    }
    let mut tpm = Tpm::manufacture(Box::new(platform.clone()), Box::new(platform.clone()));
    power_cycle(&mut tpm);
    for setup in [command::hash_sequence_start(None), command::pcr_event(16, b"event")] {
        assert!(check_response(&tpm.execute(0, &setup)));
    }
    let (permanent, mut volatile) = (tpm.permanent(), tpm.volatile());
    for change in rest.chunks_exact(3) {
        let at = usize::from(u16::from_be_bytes([change[0], change[1]]));
        if let Some(byte) = volatile.get_mut(at) {
            *byte = change[2];
        }
    }
    let mut tpm = load(&permanent).expect("unchanged");
    let restored = tpm.restore_volatile(&volatile).is_ok();
    for cmd in [command::read_clock(), command::get_random(8), command::get_capability(1, 0x0200_0000, 64)] {
        check_response(&tpm.execute(0, &cmd));
    }
    power_cycle(&mut tpm);
    restored
}

fn power_cycle(tpm: &mut Tpm) {
    tpm.init();
    let response = tpm.execute(0, &command::startup(StartupType::Clear));
    assert_eq!(response::parse_empty(&response), Ok(()));
}

fn step(tpm: &mut Tpm, platform: &Platform, script: &mut Script<'_>) -> Option<bool> {
    let kind = script.byte()? % 8;
    match kind {
        0 => tpm.init(),
        1 => tpm.hash_start(),
        2 => tpm.hash_data(script.sized()?),
        3 => assert!(matches!(tpm.hash_end().len(), 0 | 3)),
        4 => {
            let seconds = u16::from_be_bytes(script.array()?);
            platform.now_ms.fetch_add(u64::from(seconds) * 1000, Ordering::Relaxed);
        }
        _ => {
            let locality = script.byte()?;
            let mut command = script.sized()?.to_vec();
            let size = u32::try_from(command.len()).expect("a string has a 16-bit length");
            if let (6.., Some(field)) = (kind, command.get_mut(2..6)) {
                field.copy_from_slice(&size.to_be_bytes());
            }
            return Some(check_response(&tpm.execute(locality, &command)));
        }
    }
    Some(false)
}

/// Part 1, 18.4 and Part 3, 5.2: header and size; an error has nothing else, and only a bad tag has the old tag.
/// Answers whether it is a success.
fn check_response(response: &[u8]) -> bool {
    assert!((10..=MAX_RESPONSE_SIZE).contains(&response.len()));
    match response::parse(response, false) {
        // Parsed without its handle, so the rest may seem malformed; the header is right if it came this far.
        Ok(_) | Err(ResponseError::Malformed(_)) => {
            assert!(!response.starts_with(&st::RSP_COMMAND.to_be_bytes()));
            true
        }
        Err(ResponseError::Tpm(code)) => {
            assert_eq!(response.len(), 10);
            assert_eq!(response.starts_with(&st::RSP_COMMAND.to_be_bytes()), code == rc::BAD_TAG);
            false
        }
        Err(other) => panic!("{other}: {response:02x?}"),
    }
}

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
