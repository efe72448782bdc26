//! The software backend: [`bulla_cpu`] in front of the machine's memory and devices. Needs nothing of the host but time
//! and memory.

use std::sync::Arc;

use bulla_cpu::cpuid;

use super::{Backend, BackendError, Capabilities, CpuidLeaf, Partition};

mod partition;
mod state;
mod time;
mod vcpu;

#[cfg(test)]
mod tests;

use partition::SoftPartition;

/// As many as have an APIC ID of 8 bits that is not everybody's.
const MAX_VCPUS: usize = 255;
/// No limit of the processor's; more regions than a machine has.
const MAX_SLOTS: usize = 64;

/// How the processors' time passes, and where their random numbers come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pace {
    /// The host's clock and the host's entropy.
    #[default]
    Host,
    /// The same run from the same inputs, instruction for instruction. Time is the number of instructions executed,
    /// and idle time is skipped; the calendar begins at a fixed day; RDRAND and RDSEED are worthless as secrets, for they
    /// are the same in each run. What comes from outside at its own time (console input, a power button, a pause, a channel's
    /// other end) or is drawn outside (the vTPM's random numbers and keys) is no part of the promise.
    Deterministic,
}

/// Virtual machines on the software processor.
#[derive(Debug)]
pub struct SoftBackend {
    capabilities: Capabilities,
    pace: Pace,
}

impl SoftBackend {
    /// A backend whose partitions run at `pace`.
    #[must_use]
    pub fn new(pace: Pace) -> Self {
        let capabilities = Capabilities {
            max_vcpus: MAX_VCPUS,
            max_memory_slots: MAX_SLOTS,
            cpuid: cpuid::table().iter().map(from_cpu).collect(),
        };
        Self { capabilities, pace }
    }
}

impl Backend for SoftBackend {
    fn name(&self) -> &'static str {
        "soft"
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn create_partition(&self) -> Result<Arc<dyn Partition>, BackendError> {
        Ok(Arc::new(SoftPartition::new(self.pace, &self.capabilities)))
    }
}

fn from_cpu(leaf: &cpuid::Leaf) -> CpuidLeaf {
    CpuidLeaf { function: leaf.function, index: leaf.index, indexed: leaf.indexed, output: leaf.output }
}

fn to_cpu(leaf: &CpuidLeaf) -> cpuid::Leaf {
    cpuid::Leaf { function: leaf.function, index: leaf.index, indexed: leaf.indexed, output: leaf.output }
}
