//! Clients that do not keep to the protocol: the program says no, or hangs up, and serves the next.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use super::program::{Tpm, exchange, response_code};
use super::{BAD_ORDINAL, BAD_PARAMETER, GET_CAPABILITY, GET_RANDOM, HASH_DATA, INIT, SET_BLOB, STOP};

const COMMAND_SIZE: u32 = 0x142;
const VALUE: u32 = 0x84;

/// That it still serves: one good exchange on a new connection.
fn serves(tpm: &Tpm) {
    assert_eq!(response_code(&exchange(&mut tpm.data(), &GET_RANDOM)), 0);
    assert_eq!(tpm.control().ask(GET_CAPABILITY, &[], 8)[..4], [0; 4]);
}

#[test]
fn commands_of_the_wrong_size_are_refused_by_the_tpm() {
    let tpm = Tpm::unix(&["--flags", "startup-clear"]);
    let mut data = tpm.data();
    let with_size = |size: u32| {
        let mut command = GET_RANDOM.to_vec();
        command[2..6].copy_from_slice(&size.to_be_bytes());
        command
    };
    for size in [0, 10, 11, 13, 4096, 4097, u32::MAX] {
        assert_eq!(response_code(&exchange(&mut data, &with_size(size))), COMMAND_SIZE, "{size}");
    }
    assert_eq!(response_code(&exchange(&mut data, &[0; 12])), VALUE);
    // TPM 1.2's TPM_ORD_GetTicks: OVMF goes by the response's tag, which must not be TPM 1.2's.
    let ticks = exchange(&mut data, &[0, 0xc1, 0, 0, 0, 10, 0, 0, 0, 0xf1]);
    assert_eq!((&ticks[..2], response_code(&ticks)), (&[0x80, 1][..], VALUE));
    // Two commands in one breath are one of the wrong size, as for swtpm.
    assert_eq!(response_code(&exchange(&mut data, &[GET_RANDOM, GET_RANDOM].concat())), COMMAND_SIZE);
    assert_eq!(response_code(&exchange(&mut data, &GET_RANDOM)), 0);
}

#[test]
fn a_command_may_come_in_pieces() {
    let tpm = Tpm::unix(&["--flags", "startup-clear"]);
    let mut data = tpm.data();
    for cut in 1..GET_RANDOM.len() {
        data.write_all(&GET_RANDOM[..cut]).unwrap();
        std::thread::yield_now();
        assert_eq!(response_code(&exchange(&mut data, &GET_RANDOM[cut..])), 0, "{cut}");
    }
}

#[test]
fn a_client_that_leaves_in_the_middle_makes_room_for_the_next() {
    let tpm = Tpm::unix(&["--flags", "startup-clear"]);
    for cut in 0..GET_RANDOM.len() {
        tpm.data().write_all(&GET_RANDOM[..cut]).unwrap();
    }
    let set_blob = [&SET_BLOB.to_be_bytes()[..], &[0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 9, 9]].concat();
    for cut in 0..set_blob.len() {
        tpm.control().0.write_all(&set_blob[..cut]).unwrap();
    }
    serves(&tpm);
}

#[test]
fn requests_that_are_none_are_refused() {
    let tpm = Tpm::unix(&["--flags", "startup-clear"]);
    let mut control = tpm.control();
    for number in [0, 20, 0x8001_0000, u32::MAX] {
        assert_eq!(control.ask(number, &[], 4), BAD_ORDINAL, "{number}");
    }
    assert_eq!(control.ask(INIT, &[0; 5], 4), BAD_PARAMETER, "too long");
    assert_eq!(control.ask(STOP, &[0; 4], 4), BAD_PARAMETER, "too long");
    drop(control);
    // More than any request may have: refused before it is read.
    for request in [HASH_DATA, SET_BLOB] {
        let fields: &[u8] = if request == HASH_DATA { &[0xff; 4] } else { &[0, 0, 0, 0, 0, 0, 0, 1, 0, 8, 0, 1] };
        assert_eq!(tpm.control().ask(request, fields, 4), BAD_PARAMETER);
    }
    serves(&tpm);
}

/// A request whose rest does not come ends its connection, not the program.
#[test]
fn half_a_request_is_not_waited_for_without_end() {
    let tpm = Tpm::unix(&["--flags", "startup-clear"]);
    let mut control = tpm.control();
    control.0.write_all(&INIT.to_be_bytes()).unwrap();
    assert_eq!(control.0.read(&mut [0]).unwrap(), 0);
    serves(&tpm);
}

/// Bytes of a small generator on both channels, in pieces of all lengths.
#[test]
fn noise_does_not_end_it() {
    let tpm = Tpm::unix(&["--flags", "startup-clear"]);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let drain = |mut stream: UnixStream| {
        let _ = stream.shutdown(Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
    };
    for _ in 0..200 {
        let length = usize::try_from(next() % 300).unwrap();
        let mut noise: Vec<u8> = std::iter::repeat_with(|| next() as u8).take(length).collect();
        // Most begin as something that exists.
        if let Some(start) = noise.get_mut(..4) {
            match next() % 4 {
                0 => start.copy_from_slice(&[0, 0, 0, (next() % 20) as u8]),
                1 => start.copy_from_slice(&[0x80, 1, 0, 0]),
                2 => start.copy_from_slice(&[0, 0, 0, 8]),
                _ => {}
            }
        }
        // Not SHUTDOWN, which would end it rightly; nor INIT and STOP, after which GetRandom would not be answered.
        if noise
            .first_chunk::<4>()
            .is_some_and(|n| (2..=3).contains(&u32::from_be_bytes(*n)) || n == &STOP.to_be_bytes())
        {
            continue;
        }
        let (mut control, mut data) = (tpm.control().0, tpm.data());
        let _ = control.write_all(&noise);
        let _ = data.write_all(&noise);
        drain(control);
        drain(data);
    }
    serves(&tpm);
}
