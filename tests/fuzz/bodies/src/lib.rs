//! What the fuzz targets do with their bytes: one function for each parser of foreign input.
//!
//! The libFuzzer programs in `../fuzz_targets` call these functions, and so does an ordinary test with every file of
//! `../corpus`; README.md in the folder above says what each target claims. A function panics when a claim
//! does not hold, and else answers whether the bytes got to where something of worth was claimed. Equal bytes do equal things: randomness and time are counted, never asked for.
#![forbid(unsafe_code)]

mod boot;
mod cpu;
pub mod described;
#[path = "../../../../vmm/cpu/tests/common/mod.rs"]
mod machine;
mod measured;
mod platform;
pub mod prepared;
mod script;
pub mod soft_tpm;
mod state_file;
mod swtpm;
mod tpm;
mod vtpm;
mod wire;

pub use boot::{boot_window, kernel};
pub use cpu::cpu;
pub use measured::{eventlog, evidence, expected, policy};
pub use state_file::vtpm_state_file;
pub use swtpm::swtpm_control;
pub use tpm::tpm_types;
pub use vtpm::{succeeded, tpm_command, vtpm_state};
pub use wire::{agent_line, channel, vtpm_frame};

/// The body of a target.
pub type Body = fn(&[u8]) -> bool;

/// Every target: its name, which is also that of its program and of its folder of seeds, and its body.
pub const TARGETS: [(&str, Body); 15] = [
    ("tpm_command", tpm_command),
    ("tpm_types", tpm_types),
    ("eventlog", eventlog),
    ("evidence", evidence),
    ("expected", expected),
    ("policy", policy),
    ("boot_window", boot_window),
    ("kernel", kernel),
    ("vtpm_frame", vtpm_frame),
    ("channel", channel),
    ("agent_line", agent_line),
    ("cpu", cpu),
    ("vtpm_state", vtpm_state),
    ("vtpm_state_file", vtpm_state_file),
    ("swtpm_control", swtpm_control),
];
