//! The program bulla-attest.
#![forbid(unsafe_code)]

fn main() {}
