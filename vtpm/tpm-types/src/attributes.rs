//! Attribute words (Part 2, chapter 8).

use core::ops::BitOr;

use crate::codec::{Marshal, Reader, Unmarshal, Writer};
use crate::error::{Error, ErrorKind};

macro_rules! bits {
    ($(#[$doc:meta])* $name:ident: $repr:ty, $read:ident, $what:literal, reserved = $reserved:expr;
     $($(#[$bit_doc:meta])* $bit:ident = $value:expr;)*) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        pub struct $name($repr);

        impl $name {
            $($(#[$bit_doc])* pub const $bit: Self = Self($value);)*

            /// No attribute.
            pub const NONE: Self = Self(0);

            /// The word with these bits, reserved ones included.
            #[must_use]
            pub const fn from_bits(bits: $repr) -> Self {
                Self(bits)
            }

            /// The word.
            #[must_use]
            pub const fn bits(self) -> $repr {
                self.0
            }

            /// Whether every bit of `other` is set.
            #[must_use]
            pub const fn contains(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }

            /// Whether any bit of `other` is set.
            #[must_use]
            pub const fn intersects(self, other: Self) -> bool {
                self.0 & other.0 != 0
            }

            /// These attributes and `other`'s; a `const` form of `|`.
            #[must_use]
            pub const fn with(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }

            /// These attributes without `other`'s.
            #[must_use]
            pub const fn without(self, other: Self) -> Self {
                Self(self.0 & !other.0)
            }
        }

        impl BitOr for $name {
            type Output = Self;
            fn bitor(self, other: Self) -> Self {
                self.with(other)
            }
        }

        impl Marshal for $name {
            fn marshal(&self, w: &mut Writer) {
                w.$read(self.0);
            }
        }

        impl<'a> Unmarshal<'a> for $name {
            /// A reserved bit is TPM_RC_RESERVED_BITS.
            fn unmarshal(r: &mut Reader<'a>) -> Result<Self, Error> {
                let at = r.clone();
                let bits = r.$read($what)?;
                if Self(bits).intersects(Self($reserved)) {
                    return Err(at.error(ErrorKind::ReservedBits, $what));
                }
                Ok(Self(bits))
            }
        }
    };
}

bits! {
    /// TPMA_OBJECT (Part 2, 8.3).
    ObjectAttributes: u32, u32, "TPMA_OBJECT", reserved = 0xfff0_f309;
    /// The hierarchy of the object may not change.
    FIXED_TPM = 1 << 1;
    /// Saved contexts of the object do not survive Startup(CLEAR).
    ST_CLEAR = 1 << 2;
    /// The parent of the object may not change.
    FIXED_PARENT = 1 << 4;
    /// The TPM generated the sensitive data.
    SENSITIVE_DATA_ORIGIN = 1 << 5;
    /// USER role actions may be approved with the authValue.
    USER_WITH_AUTH = 1 << 6;
    /// ADMIN role actions need a policy session.
    ADMIN_WITH_POLICY = 1 << 7;
    /// Not subject to dictionary attack protection.
    NO_DA = 1 << 10;
    /// Duplication is encrypted.
    ENCRYPTED_DUPLICATION = 1 << 11;
    /// Only structures of known format are signed or decrypted.
    RESTRICTED = 1 << 16;
    /// The private part may decrypt.
    DECRYPT = 1 << 17;
    /// The private part may sign (or encrypt, for a symmetric cipher).
    SIGN = 1 << 18;
    /// An X.509 key whose private part may sign only certificates.
    X509_SIGN = 1 << 19;
}

bits! {
    /// TPMA_SESSION (Part 2, 8.4).
    SessionAttributes: u8, u8, "TPMA_SESSION", reserved = 0x18;
    /// The session stays usable after the command.
    CONTINUE_SESSION = 1;
    /// The command is executed only if the session is exclusive.
    AUDIT_EXCLUSIVE = 1 << 1;
    /// The audit digest is initialised.
    AUDIT_RESET = 1 << 2;
    /// The first command parameter is encrypted.
    DECRYPT = 1 << 5;
    /// The first response parameter is encrypted.
    ENCRYPT = 1 << 6;
    /// The session is an audit session.
    AUDIT = 1 << 7;
}

bits! {
    /// TPMA_LOCALITY (Part 2, 8.5). Values of 32 and above are extended localities.
    Locality: u8, u8, "TPMA_LOCALITY", reserved = 0;
    /// Locality 0.
    ZERO = 1;
    /// Locality 1.
    ONE = 1 << 1;
    /// Locality 2.
    TWO = 1 << 2;
    /// Locality 3.
    THREE = 1 << 3;
    /// Locality 4.
    FOUR = 1 << 4;
}

impl Locality {
    /// The attribute for one locality: a bit for 0 to 4, the number itself from 32 on; `None` between.
    #[must_use]
    pub const fn of(locality: u8) -> Option<Self> {
        match locality {
            0..=4 => Some(Self(1 << locality)),
            32.. => Some(Self(locality)),
            _ => None,
        }
    }
}

bits! {
    /// TPMA_CC (Part 2, 8.9), without the command index, which is in the low 16 bits.
    CommandAttributes: u32, u32, "TPMA_CC", reserved = 0x003f_0000 | 0xc000_0000;
    /// The command may write to NV.
    NV = 1 << 22;
    /// The command may flush any number of loaded contexts.
    EXTENSIVE = 1 << 23;
    /// A transient handle among the command's handles is flushed when it completes.
    FLUSHED = 1 << 24;
    /// The response has a handle area.
    R_HANDLE = 1 << 28;
    /// The command is vendor-specific.
    V = 1 << 29;
}

bits! {
    /// TPMA_NV (Part 2, 13.4), with the type of the index in bits 4 to 7: see [`crate::NvKind`].
    NvAttributes: u32, u32, "TPMA_NV", reserved = 0x01f0_0300;
    /// platformAuth or platformPolicy may write.
    PP_WRITE = 1;
    /// ownerAuth or ownerPolicy may write.
    OWNER_WRITE = 1 << 1;
    /// The index's authValue may authorize writing.
    AUTH_WRITE = 1 << 2;
    /// The index's authPolicy may authorize writing.
    POLICY_WRITE = 1 << 3;
    /// The index goes only by TPM2_NV_UndefineSpaceSpecial.
    POLICY_DELETE = 1 << 10;
    /// The index is locked for writing.
    WRITE_LOCKED = 1 << 11;
    /// The index is written as a whole.
    WRITE_ALL = 1 << 12;
    /// TPM2_NV_WriteLock locks the index for good.
    WRITE_DEFINE = 1 << 13;
    /// TPM2_NV_WriteLock locks the index until the next TPM Reset or Restart.
    WRITE_ST_CLEAR = 1 << 14;
    /// TPM2_NV_GlobalWriteLock locks the index.
    GLOBAL_LOCK = 1 << 15;
    /// platformAuth or platformPolicy may read.
    PP_READ = 1 << 16;
    /// ownerAuth or ownerPolicy may read.
    OWNER_READ = 1 << 17;
    /// The index's authValue may authorize reading.
    AUTH_READ = 1 << 18;
    /// The index's authPolicy may authorize reading.
    POLICY_READ = 1 << 19;
    /// Not subject to dictionary attack protection.
    NO_DA = 1 << 25;
    /// The data need to be stored only at an orderly shutdown.
    ORDERLY = 1 << 26;
    /// The index is not written any more after a TPM Reset or Restart.
    CLEAR_ST_CLEAR = 1 << 27;
    /// The index is locked for reading.
    READ_LOCKED = 1 << 28;
    /// The index has been written.
    WRITTEN = 1 << 29;
    /// The platform has defined the index.
    PLATFORM_CREATE = 1 << 30;
    /// TPM2_NV_ReadLock locks the index until the next TPM Reset or Restart.
    READ_ST_CLEAR = 1 << 31;
}
