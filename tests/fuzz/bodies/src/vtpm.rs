//! The vTPM's engine: its commands, and its state.

use bulla_tpm_types::response::{self, ResponseError};
use bulla_tpm_types::{StartupType, command, rc, st};
use bulla_vtpm::engine::{MAX_RESPONSE_SIZE, MAX_STATE_SIZE, Tpm};

use crate::described;
use crate::platform::Platform;
use crate::prepared::{prepared, states, uses};
use crate::script::Script;

/// Most steps taken of one input: enough to fill every slot, few enough to stay quick.
const MAX_STEPS: usize = 64;

/// The engine, driven by a list of steps. The first byte says which TPM it is: one that is new (even), or one that has keys,
/// Indexes, sessions and sequences. A step is a byte, modulo 12, and what it needs:
///
/// - 0 to 3: `_TPM_Init`; `_TPM_Hash_Start`; `_TPM_Hash_Data` with a string; `_TPM_Hash_End`;
/// - 4: some seconds pass (16 bits);
/// - 5: a command as it is: locality, string;
/// - 6: the same with its size field set right;
/// - 7: the TPM's machine is suspended, and goes on;
/// - 8 to 11: a command as [`described`](crate::described) says: locality, description.
///
/// A string is a 16-bit length and that many bytes. The TPM is started first. Answers whether a command succeeded.
pub fn tpm_command(bytes: &[u8]) -> bool {
    !succeeded(bytes).is_empty()
}

/// The codes of the commands in an input of [`tpm_command`] that succeed, in their order.
#[must_use]
pub fn succeeded(bytes: &[u8]) -> Vec<u32> {
    let platform = Platform::default();
    let mut script = Script::new(bytes);
    let mut tpm = if script.byte().is_some_and(|kind| kind & 1 == 1) {
        prepared(&platform)
    } else {
        let mut tpm = platform.manufacture();
        power_cycle(&mut tpm, &platform);
        tpm
    };
    let steps = (0..MAX_STEPS).map_while(|_| step(&mut tpm, &platform, &mut script));
    let succeeded = steps.flatten().collect();
    // Whatever was done to it: its state is one, and a TPM that is switched off and on works.
    suspend(&mut tpm, &platform);
    power_cycle(&mut tpm, &platform);
    succeeded
}

/// A TPM's state, in one of three ways by the first byte, modulo 3.
///
/// - 0: the rest is a permanent state;
/// - 1, 2: the rest are changes of the volatile or the permanent state of a TPM that has something of everything, each an
///   offset of 16 bits and a byte.
///
/// A permanent state that loads is written as what loads again, the same. What loads or is restored answers commands, and
/// is what can be suspended again. Answers whether it was a state.
pub fn vtpm_state(bytes: &[u8]) -> bool {
    let Some((kind, rest)) = bytes.split_first() else { return false };
    let platform = Platform::default();
    let (permanent, volatile) = states();
    let (permanent, volatile) = match kind % 3 {
        0 => (rest.to_vec(), None),
        1 => (permanent.to_vec(), Some(changed(volatile, rest))),
        _ => (changed(permanent, rest), Some(volatile.to_vec())),
    };
    let Ok(mut tpm) = platform.load(&permanent) else { return false };
    let written = tpm.permanent();
    let again = platform.load(&written).expect("what was written by itself");
    assert_eq!(*again.permanent(), *written);
    let restored = volatile.map(|volatile| tpm.restore_volatile(&volatile).is_ok());
    if restored.is_none() {
        tpm.init();
        check_response(&platform.execute(&mut tpm, 0, &command::startup(StartupType::State)));
        check_response(&platform.execute(&mut tpm, 0, &command::startup(StartupType::Clear)));
    }
    if restored != Some(false) {
        suspend(&mut tpm, &platform);
        // Each kind of what the state has is used: objects, sequences, sessions, Indexes, PCR, time.
        for command in uses() {
            check_response(&platform.execute(&mut tpm, 0, command));
        }
        suspend(&mut tpm, &platform);
    }
    tpm.init();
    check_response(&platform.execute(&mut tpm, 0, &command::startup(StartupType::Clear)));
    restored.unwrap_or(true)
}

/// A state with changes, each an offset of 16 bits and a byte.
pub(crate) fn changed(state: &[u8], changes: &[u8]) -> Vec<u8> {
    let mut state = state.to_vec();
    for change in changes.chunks_exact(3) {
        let at = usize::from(u16::from_be_bytes([change[0], change[1]]));
        if let Some(byte) = state.get_mut(at) {
            *byte = change[2];
        }
    }
    state
}

fn power_cycle(tpm: &mut Tpm, platform: &Platform) {
    tpm.init();
    let response = platform.execute(tpm, 0, &command::startup(StartupType::Clear));
    assert_eq!(response::parse_empty(&response), Ok(()));
}

/// The TPM's state is taken and goes on as another TPM, which has the same state.
fn suspend(tpm: &mut Tpm, platform: &Platform) {
    let (permanent, volatile) = (tpm.permanent(), tpm.volatile());
    assert!(permanent.len() <= MAX_STATE_SIZE && volatile.len() <= MAX_STATE_SIZE);
    let mut again = platform.load(&permanent).expect("a state that was saved");
    assert_eq!(*again.permanent(), *permanent);
    again.restore_volatile(&volatile).expect("a state that was saved");
    assert_eq!(*again.volatile(), *volatile);
    *tpm = again;
}

/// Takes a step. The code of a command that succeeded; `None` when the script ends.
fn step(tpm: &mut Tpm, platform: &Platform, script: &mut Script<'_>) -> Option<Option<u32>> {
    let kind = script.byte()? % 12;
    let (locality, command) = match kind {
        5 | 6 => {
            let locality = script.byte()?;
            let mut command = script.sized()?.to_vec();
            let size = u32::try_from(command.len()).expect("a string has a 16-bit length");
            if let (6, Some(field)) = (kind, command.get_mut(2..6)) {
                field.copy_from_slice(&size.to_be_bytes());
            }
            (locality, command)
        }
        8.. => (script.byte()?, described::read(script)?),
        _ => {
            match kind {
                0 => tpm.init(),
                1 => tpm.hash_start(),
                2 => tpm.hash_data(script.sized()?),
                3 => assert!(matches!(tpm.hash_end().len(), 0..=4)),
                4 => platform.pass_seconds(u16::from_be_bytes(script.array()?)),
                _ => suspend(tpm, platform),
            }
            return Some(None);
        }
    };
    let success = check_response(&platform.execute(tpm, locality, &command));
    let code = command.get(6..).and_then(|rest| rest.first_chunk()).map(|code| u32::from_be_bytes(*code));
    Some(code.filter(|_| success))
}

/// Part 1, 18.4 and Part 3, 5.2: header and size; an error has nothing else, and only a bad tag has the old tag.
/// Answers whether it is a success.
pub(crate) fn check_response(response: &[u8]) -> bool {
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
