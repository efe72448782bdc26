//! The control channel of `bulla-vtpm socket`, with the data channel beside it.

use bulla_tpm_types::{cc, command};
use bulla_vtpm::engine::MAX_STATE_SIZE;
use bulla_vtpm::state::{KeyFormat, KeySource};
use bulla_vtpm::swtpm::Direct;

use crate::described;
use crate::platform::Platform;
use crate::prepared::{self, prepared, states};
use crate::script::Script;
use crate::vtpm::check_response;

const MAX_STEPS: usize = 32;

// Requests of swtpm's tpm_ioctl.h.
const INIT: u32 = 0x02;
const HASH_DATA: u32 = 0x07;
const GET_BLOB: u32 = 0x0c;
const SET_BLOB: u32 = 0x0d;
const STOP: u32 = 0x0e;
/// Numbers of requests, modulo this, are those that there are and two more.
const NUMBERS: u32 = 0x15;

/// The result codes that a refusal may have.
const REFUSALS: [u32; 7] = [0x03, 0x09, 0x0a, 0x0d, 0x1f, 0x21, 0x3d];

/// Both channels, driven by a list of steps. The bits of the first byte say whether there is a key for the state's file, one
/// for migration, whether locality 4 is refused, whether localities may be set in band, and whether the TPM is a new
/// one or one with something of everything. A step is a byte, modulo 8, and what it needs:
///
/// - 0: a control message as it is: string;
/// - 1: a request by its number (a byte), with fields: string;
/// - 2: a request with data, whose length is set right: a byte, fields: string, data: string;
/// - 3: a data message as it is: string;
/// - 4: a command as [`described`] says;
/// - 5: the same behind the simulator's prefix: locality, description;
/// - 6: the TPM moves: its states are fetched, and set again once it is off; if it was on, it goes on;
/// - 7: a state with changes is set: kind (a byte), changes: string, of an offset of 16 bits and a byte each.
///
/// Commands that make keys are left out: the search for those of RSA takes long. Answers whether a request other than the
/// first three succeeded that answers more than its result.
pub fn swtpm_control(bytes: &[u8]) -> bool {
    let mut script = Script::new(bytes);
    let kind = script.byte().unwrap_or(0);
    let key = |byte, bit: u8| {
        (kind & bit != 0).then(|| KeySource::from_bytes(&[byte; 32], KeyFormat::Binary).expect("32 bytes"))
    };
    let locality = [(4, "reject-locality-4"), (8, "allow-set-locality")].into_iter();
    let locality: Vec<&str> = locality.filter(|(bit, _)| kind & bit != 0).map(|(_, name)| name).collect();
    let options = ["--log", "file=-", "--locality", &locality.join(",")];
    let tpm = if kind & 16 != 0 { prepared(&Platform::default()) } else { prepared::new() };
    let wire = Direct::new(tpm, &options, key(1, 1), key(2, 2)).expect("good options");
    let results = (0..MAX_STEPS).map_while(|_| step(&wire, &mut script));
    let successes = results.filter(|success| *success).count();
    // Whatever was done: power comes and goes.
    control(&wire, &request(STOP, &[], None));
    control(&wire, &request(INIT, &[0; 4], None));
    data(&wire, &command::startup(bulla_tpm_types::StartupType::Clear));
    control(&wire, &request(STOP, &[], None));
    successes > 0
}

fn step(wire: &Direct, script: &mut Script<'_>) -> Option<bool> {
    Some(match script.byte()? % 8 {
        0 => control(wire, script.sized()?).is_some(),
        1 => {
            let number = u32::from(script.byte()?) % NUMBERS;
            control(wire, &request(number, script.sized()?, None)).is_some_and(|answer| answer.len() > 4)
        }
        2 => {
            let number = if script.byte()? & 1 == 0 { HASH_DATA } else { SET_BLOB };
            control(wire, &request(number, script.sized()?, Some(script.sized()?))).is_some()
        }
        3 => data(wire, script.sized()?),
        4 => data(wire, &described::read(script)?),
        5 => {
            let locality = script.byte()?;
            let command = described::read(script)?;
            data(wire, &[&[0, 0, 0, 8, locality][..], &(command.len() as u32).to_be_bytes(), &command].concat())
        }
        6 => moves(wire),
        _ => {
            let kind = u32::from(script.byte()?) % 4;
            let (permanent, volatile) = states();
            let state = crate::vtpm::changed(if kind == 2 { volatile } else { permanent }, script.sized()?);
            control(wire, &set_blob(0, kind, &state)).is_some()
        }
    })
}

fn request(number: u32, fields: &[u8], with_data: Option<&[u8]>) -> Vec<u8> {
    let mut bytes = [&number.to_be_bytes()[..], fields].concat();
    if let Some(data) = with_data {
        bytes.extend((data.len() as u32).to_be_bytes());
        bytes.extend(data);
    }
    bytes
}

fn set_blob(flags: u32, kind: u32, state: &[u8]) -> Vec<u8> {
    request(SET_BLOB, &[flags.to_be_bytes(), kind.to_be_bytes()].concat(), Some(state))
}

/// Sends what may be a request. The answer, if it was one that succeeded.
fn control(wire: &Direct, message: &[u8]) -> Option<Vec<u8>> {
    let answer = wire.control(message)?.to_vec();
    assert!(answer.len() <= MAX_STATE_SIZE + 4096);
    let code = u32::from_be_bytes(*answer.first_chunk().expect("a result code"));
    if code == 0 {
        return Some(answer);
    }
    assert!(REFUSALS.contains(&code) && answer.len() == 4, "{answer:02x?}");
    None
}

/// The state of this kind as it leaves, and its flags.
fn get_blob(wire: &Direct, kind: u32) -> Option<(u32, Vec<u8>)> {
    let fields = [0, kind, 0].map(u32::to_be_bytes).concat();
    let answer = control(wire, &request(GET_BLOB, &fields, None))?;
    let word = |at: usize| u32::from_be_bytes(answer[at..at + 4].try_into().expect("four bytes"));
    let (flags, total, length) = (word(4), word(8), word(12));
    let blob = answer[16..].to_vec();
    assert_eq!((total as usize, length as usize), (blob.len(), blob.len()));
    Some((flags, blob))
}

/// What QEMU does at both ends of a migration. The TPM has to be on: whatever state it is in, it moves.
fn moves(wire: &Direct) -> bool {
    let Some(blobs) = (1..=3).map(|kind| get_blob(wire, kind)).collect::<Option<Vec<_>>>() else { return false };
    control(wire, &request(STOP, &[], None)).expect("power can always go");
    for (kind, (flags, blob)) in (1..).zip(blobs) {
        control(wire, &set_blob(flags, kind, &blob)).expect("a state that was fetched");
    }
    control(wire, &request(INIT, &[0; 4], None)).expect("the TPM goes on");
    true
}

/// Sends a message of the data channel. Whether its answer is a success.
fn data(wire: &Direct, message: &[u8]) -> bool {
    if [6, 15].into_iter().any(|at| message.get(at..at + 4).is_some_and(makes_a_key)) {
        return false;
    }
    let answer = wire.data(message);
    // The simulator's frame: the response's length, which no tag looks like, and zeros after it.
    if answer.starts_with(&[0, 0]) {
        let (length, rest) = answer.split_first_chunk().expect("a length");
        let (response, zeros) = rest.split_at(u32::from_be_bytes(*length) as usize);
        assert_eq!(zeros, [0; 4]);
        return check_response(response);
    }
    check_response(&answer)
}

fn makes_a_key(code: &[u8]) -> bool {
    [cc::CREATE, cc::CREATE_PRIMARY, cc::CREATE_LOADED].iter().any(|c| c.to_be_bytes() == *code)
}
