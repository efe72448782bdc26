//! The in-guest images, built by this crate's build script and embedded.
//!
//! They are the same bytes wherever they are built from the same sources by the same compiler; see `README.md`.
#![forbid(unsafe_code)]

/// The firmware (stage 1), a flat image with a [`bulla_boot_abi::image`] header, for
/// [`bulla_boot_abi::map::FIRMWARE_BASE`].
///
/// [`bulla_boot_abi::image`]: ../bulla_boot_abi/image/index.html
/// [`bulla_boot_abi::map::FIRMWARE_BASE`]: ../bulla_boot_abi/map/constant.FIRMWARE_BASE.html
pub const FIRMWARE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/firmware.img"));

/// The bootloader (stage 2), a flat image with such a header; the firmware copies it to its place.
pub const BOOTLOADER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/bootloader.img"));

/// The tenant, an ELF kernel.
pub const TENANT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/tenant.elf"));

#[cfg(test)]
mod tests {
    use super::*;
    use bulla_boot_abi::image::{BOOTLOADER_MAGIC, FIRMWARE_MAGIC, Header};
    use bulla_boot_abi::map;

    #[test]
    fn both_stages_have_headers_that_fit_their_places() {
        let firmware = Header::parse(FIRMWARE, FIRMWARE_MAGIC, map::FIRMWARE_BASE, map::FIRMWARE_SIZE).unwrap();
        assert_eq!(firmware.memory, map::FIRMWARE_SIZE);
        let room = map::HANDOFF_BASE - map::BOOTLOADER_BASE;
        Header::parse(BOOTLOADER, BOOTLOADER_MAGIC, map::BOOTLOADER_BASE, room).unwrap();
    }

    #[test]
    fn the_tenant_is_an_elf() {
        assert!(TENANT.starts_with(b"\x7fELF"));
    }

    #[test]
    fn no_image_names_a_path_of_the_machine_it_was_built_on() {
        for image in [FIRMWARE, BOOTLOADER, TENANT] {
            for path in [env!("CARGO_MANIFEST_DIR"), env!("OUT_DIR"), "/home/", "/root/"] {
                assert!(!image.windows(path.len()).any(|w| w == path.as_bytes()), "{path}");
            }
        }
    }
}
