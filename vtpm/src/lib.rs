//! The bulla vTPM: a TPM 2.0 engine, and the sandboxed program bulla-vtpm
#![deny(unsafe_code)] // only the sandbox has some, and says why

pub mod info;
pub mod platform;
pub mod sandbox;
pub mod server;
pub mod setup;
pub mod state;
pub mod swtpm;

pub use bulla_vtpm_engine as engine;
