//! Saving and restoring the volatile state of devices.

use serde::{Serialize, de::DeserializeOwned};

/// Why a saved state was refused. Saved states come from files and from other hosts: they are hostile input too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// Written by another version of bulla.
    #[error("saved state of {device} has version {found}, this bulla reads version {supported}")]
    Version {
        /// The device.
        device: &'static str,
        /// What the state says.
        found: u32,
        /// What can be read.
        supported: u32,
    },
    /// A value the device can never have had.
    #[error("saved state of {device} has an impossible {field}")]
    Invalid {
        /// The device.
        device: &'static str,
        /// The field.
        field: &'static str,
    },
}

impl RestoreError {
    /// Checks the version field of a saved state.
    pub(crate) fn check_version(device: &'static str, found: u32, supported: u32) -> Result<(), Self> {
        if found == supported { Ok(()) } else { Err(Self::Version { device, found, supported }) }
    }
}

/// A device whose volatile state can be taken out and put into another instance with the same configuration.
pub trait SaveRestore {
    /// The state, in a form that is ours to keep stable.
    type State: Serialize + DeserializeOwned;

    /// A copy of the volatile state.
    fn save(&self) -> Self::State;

    /// Replaces the volatile state.
    ///
    /// # Errors
    /// If the state is of another version or impossible; the device is then as it was.
    fn restore(&mut self, state: &Self::State) -> Result<(), RestoreError>;

    /// Back to the state after power-on.
    fn reset(&mut self);
}
