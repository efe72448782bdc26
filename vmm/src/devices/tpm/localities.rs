//! Which locality has the TPM (PTP 1.05, section 6.2): the same rules for both interfaces.

use super::{LOCALITIES, MAX_SOFTWARE_LOCALITY};

/// Who has the TPM, who waits for it, and whom it was taken away from; one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::devices) struct Localities {
    pub(in crate::devices) active: Option<u8>,
    pub(in crate::devices) requested: u8,
    pub(in crate::devices) seized: u8,
}

impl Localities {
    const MASK: u8 = (1 << LOCALITIES) - 1;

    /// The name of the first part that no guest's doing leads to; `highest` is the highest locality that can have the TPM.
    pub(in crate::devices) fn impossible(&self, highest: u8) -> Option<&'static str> {
        match *self {
            Self { active: Some(active), .. } if active > highest => Some("active"),
            Self { requested, .. } if requested >> (MAX_SOFTWARE_LOCALITY + 1) != 0 => Some("requested"),
            Self { seized, .. } if seized & !Self::MASK != 0 => Some("seized"),
            _ => None,
        }
    }

    /// `locality` wants the TPM, and waits if another one has it. Whether it got it just now.
    pub(in crate::devices) fn request(&mut self, locality: u8) -> bool {
        match self.active {
            _ if locality > MAX_SOFTWARE_LOCALITY => false,
            None => {
                self.active = Some(locality);
                true
            }
            Some(active) => {
                if active != locality {
                    self.requested |= 1 << locality;
                }
                false
            }
        }
    }

    /// `locality` gives the TPM up, or no longer waits for it. Whether another one, or nobody, has it now: the highest
    /// of those that wait gets it.
    pub(in crate::devices) fn relinquish(&mut self, locality: u8) -> bool {
        if locality > MAX_SOFTWARE_LOCALITY {
            return false;
        }
        self.requested &= !(1 << locality);
        if self.active != Some(locality) {
            return false;
        }
        self.pass_on();
        true
    }

    /// Whoever waits gets the TPM.
    pub(in crate::devices) fn pass_on(&mut self) {
        self.active = (0..LOCALITIES).rev().find(|l| self.requested >> l & 1 != 0);
        if let Some(next) = self.active {
            self.requested &= !(1 << next);
        }
    }

    /// `locality` takes the TPM, from a lower one if need be. Whether it got it.
    pub(in crate::devices) fn seize(&mut self, locality: u8) -> bool {
        if locality > MAX_SOFTWARE_LOCALITY || self.active.is_some_and(|active| active >= locality) {
            return false;
        }
        self.take(locality);
        true
    }

    /// Gives the TPM to `locality`, whoever had it.
    pub(in crate::devices) fn take(&mut self, locality: u8) {
        if let Some(loser) = self.active.replace(locality).filter(|loser| *loser != locality) {
            self.seized |= 1 << loser;
        }
        self.requested &= !(1 << locality);
    }
}
