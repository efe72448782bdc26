//! The firmware: first link of the measured chain
