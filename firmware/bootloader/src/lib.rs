//! The bootloader: measures and enters a kernel
