//! The in-guest images (firmware, bootloader, tenant), built and embedded
