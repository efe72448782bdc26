//! The bulla monitor: a virtual machine that boots measured, as a library.
//!
//! [`backend`] is the boundary to whatever executes the guest's instructions: KVM, or a processor in software.
#![deny(unsafe_code)]
#![cfg_attr(test, expect(clippy::duplicate_mod, reason = "backend/conformance is compiled once for each backend"))]

pub mod acpi;
pub mod backend;
pub mod confine;
pub mod devices;
pub mod doctor;
pub mod evidence;
pub mod machine;
pub mod measure;
pub mod memory;
pub mod shared;
pub mod tenant;
