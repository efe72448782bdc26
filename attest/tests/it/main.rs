//! Tests of bulla-attest from outside: the library as other crates use it, the program as people do.

mod appraisal;
mod cli;
mod common;
mod eventlog;
mod evidence_format;
mod tpm2_tools;
mod vectors;
