//! The local APIC (SDM vol. 3A, chapter 11).
