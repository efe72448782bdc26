//! What kind of kernel a file is.

use crate::bzimage::{BzImage, is_bzimage};
use crate::elf::{Elf, is_elf};
use crate::error::PlanError;

/// A parsed kernel file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kernel<'a> {
    /// A Linux bzImage.
    BzImage(BzImage<'a>),
    /// An ELF executable: an uncompressed Linux, a PVH kernel, bulla's tenant.
    Elf(Elf<'a>),
}

/// Parses a kernel file.
///
/// # Errors
/// [`PlanError`] that says what is wrong and where.
pub fn parse(file: &[u8]) -> Result<Kernel<'_>, PlanError> {
    if is_elf(file) {
        Elf::parse(file).map(Kernel::Elf)
    } else if is_bzimage(file) {
        BzImage::parse(file).map(Kernel::BzImage)
    } else {
        Err(PlanError::Format("it has the magic of neither"))
    }
}

impl Kernel<'_> {
    /// Where the kernel will lie in memory: first address, and first behind it.
    pub fn extent(&self) -> (u64, u64) {
        match self {
            Self::BzImage(image) => (image.address, image.address.saturating_add(image.init_size.into())),
            Self::Elf(elf) => elf.extent(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ElfImage, bzimage};
    use proptest::prelude::*;

    #[test]
    fn the_two_kinds_are_told_apart() {
        let elf = ElfImage::new(0x20_0000).load(0x20_0000, &[0; 4], 9).build();
        assert!(matches!(parse(&elf), Ok(Kernel::Elf(_))));
        assert_eq!(parse(&elf).unwrap().extent(), (0x20_0000, 0x20_0009));
        let image = bzimage(b"x");
        assert!(matches!(parse(&image), Ok(Kernel::BzImage(_))));
        assert_eq!(parse(&image).unwrap().extent(), (0x100_0000, 0x180_0000));
        for nothing in [&b""[..], b"MZ", &[0; 4096]] {
            assert!(matches!(parse(nothing), Err(PlanError::Format(_))));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..1200)) {
            let _ = parse(&bytes);
        }
    }
}
