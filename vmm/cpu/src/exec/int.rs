//! Integer instructions.
