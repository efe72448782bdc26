//! NV Indexes (Part 2, chapter 13).

use crate::attributes::NvAttributes;
use crate::buffers::Digest;
use crate::codec::{Marshal, Reader, Unmarshal, Writer};
use crate::constants::{Handle, HashAlg, ht};
use crate::error::{Error, ErrorKind};

/// MAX_NV_BUFFER_SIZE of bulla's vTPM: octets that one command writes or reads, and TPM_PT_NV_BUFFER_MAX.
pub const MAX_NV_BUFFER_SIZE: usize = 1024;

/// TPM_NT: the type of an NV Index (Part 2, 13.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NvKind {
    /// Data of any size.
    Ordinary,
    /// Eight octets that only TPM2_NV_Increment changes.
    Counter,
    /// Eight octets of bits that TPM2_NV_SetBits sets.
    Bits,
    /// A digest that TPM2_NV_Extend extends, as a PCR is.
    Extend,
    /// [`NvPin`]: wrong uses of the authValue are counted, up to a limit.
    PinFail,
    /// [`NvPin`]: right uses of the authValue are counted, up to a limit.
    PinPass,
}

impl NvKind {
    const ALL: [Self; 6] = [Self::Ordinary, Self::Counter, Self::Bits, Self::Extend, Self::PinFail, Self::PinPass];

    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Ordinary => 0,
            Self::Counter => 1,
            Self::Bits => 2,
            Self::Extend => 4,
            Self::PinFail => 8,
            Self::PinPass => 9,
        }
    }

    /// The attributes of an index of this type, which has no others yet.
    #[must_use]
    pub const fn attributes(self) -> NvAttributes {
        NvAttributes::from_bits(self.number() << 4)
    }

    /// Whether this is one of the two PIN types.
    #[must_use]
    pub const fn is_pin(self) -> bool {
        matches!(self, Self::PinFail | Self::PinPass)
    }
}

impl NvAttributes {
    /// The type of the index; `None` for a number that none has.
    #[must_use]
    pub fn kind(self) -> Option<NvKind> {
        let number = (self.bits() >> 4) & 0xf;
        NvKind::ALL.into_iter().find(|k| k.number() == number)
    }
}

/// TPMS_NV_PUBLIC (Part 2, 13.5): the public area of an NV Index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NvPublic {
    /// The index's handle.
    pub index: Handle,
    /// Algorithm of the Name and of the policy; of the data, too, in an extend index.
    pub name_alg: HashAlg,
    /// The type of the index, who may do what, and in which state it is.
    pub attributes: NvAttributes,
    /// The policy; empty if there is none.
    pub auth_policy: Digest,
    /// Octets of data.
    pub data_size: u16,
}

#[cfg(feature = "hash")]
impl NvPublic {
    /// The index's Name: nameAlg ‖ H(public area) (Part 1, 16).
    ///
    /// It changes with the attributes: when the index is first written, and whenever it is locked.
    #[must_use]
    pub fn name(&self) -> crate::Name {
        let digest = crate::hash::digest(self.name_alg, &[&self.to_vec()]);
        crate::Name::new(&digest.to_vec()).unwrap_or_default()
    }
}

impl Marshal for NvPublic {
    fn marshal(&self, w: &mut Writer) {
        w.put(&self.index);
        w.put(&self.name_alg);
        w.put(&self.attributes);
        w.put(&self.auth_policy);
        w.u16(self.data_size);
    }
}

impl<'a> Unmarshal<'a> for NvPublic {
    /// A handle outside the range of NV Indexes is TPM_RC_VALUE. How large the data may be, and which attributes go
    /// together, is for the TPM to say.
    fn unmarshal(r: &mut Reader<'a>) -> Result<Self, Error> {
        let at = r.clone();
        let index = r.get::<Handle>()?;
        if index.handle_type() != ht::NV_INDEX {
            return Err(at.error(ErrorKind::Value, "TPMI_RH_NV_INDEX"));
        }
        Ok(Self {
            index,
            name_alg: r.get()?,
            attributes: r.get()?,
            auth_policy: r.get()?,
            data_size: r.u16("dataSize")?,
        })
    }
}

/// TPMS_NV_PIN_COUNTER_PARAMETERS (Part 2, 13.3): the data of a PIN index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NvPin {
    /// pinCount: uses so far.
    pub count: u32,
    /// pinLimit: the authValue can be used while `count` is smaller.
    pub limit: u32,
}

impl Marshal for NvPin {
    fn marshal(&self, w: &mut Writer) {
        w.u32(self.count);
        w.u32(self.limit);
    }
}

impl<'a> Unmarshal<'a> for NvPin {
    fn unmarshal(r: &mut Reader<'a>) -> Result<Self, Error> {
        Ok(Self { count: r.u32("pinCount")?, limit: r.u32("pinLimit")? })
    }
}
