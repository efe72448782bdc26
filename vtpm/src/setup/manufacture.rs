//! What is done to a TPM before its first use, by commands of the TPM's own.

use bulla_tpm_types::command::{self, Builder};
use bulla_tpm_types::response::{self, ResponseError};
use bulla_tpm_types::{
    Handle, HashAlg, MAX_NV_BUFFER_SIZE, NvAttributes, NvPublic, PcrSelection, PcrSelectionList, Public, StartupType,
    cap, cc, pt, rh, templates,
};

use super::SetupError;
use super::certificate::TpmIdentity;
use super::keys::EndorsementKey;
use crate::engine::Tpm;
use crate::platform;

/// Where the storage root key is made persistent (TCG TPM v2.0 Provisioning Guidance 1.0, 7.5).
pub(super) const SRK: Handle = Handle(0x8100_0001);

/// An index of a certificate: the platform's, for all to read (TCG EK Credential Profile 2.5, 2.2.1).
const CERTIFICATE: NvAttributes = NvAttributes::PLATFORM_CREATE
    .with(NvAttributes::PP_WRITE)
    .with(NvAttributes::WRITE_DEFINE)
    .with(NvAttributes::PP_READ)
    .with(NvAttributes::OWNER_READ)
    .with(NvAttributes::AUTH_READ)
    .with(NvAttributes::NO_DA);

/// A TPM that is being made, in memory.
pub(super) struct Workpiece {
    tpm: Tpm,
}

impl Workpiece {
    /// A TPM with fresh seeds, started.
    pub(super) fn new() -> Result<Self, SetupError> {
        let mut new = Self { tpm: platform::manufacture() };
        new.power_on()?;
        Ok(new)
    }

    fn power_on(&mut self) -> Result<(), SetupError> {
        self.tpm.init();
        self.run("TPM2_Startup", &command::startup(StartupType::Clear))
    }

    fn run(&mut self, what: &'static str, command: &[u8]) -> Result<(), SetupError> {
        response::parse_empty(&self.tpm.execute(0, command)).map_err(failed(what))
    }

    /// TPM2_PCR_Allocate (Part 3, 22.5) of all 24 PCR in these banks and none in the others, and the reset that makes it
    /// so.
    pub(super) fn allocate(&mut self, banks: &[HashAlg]) -> Result<(), SetupError> {
        const WHAT: &str = "TPM2_PCR_Allocate";
        let all: Vec<u32> = (0..bulla_tpm_types::IMPLEMENTATION_PCR).collect();
        let banks = HashAlg::ALL.map(|alg| PcrSelection::new(alg, if banks.contains(&alg) { &all } else { &[] }));
        let selection = PcrSelectionList::from_slice(&banks).unwrap_or_default();
        let command =
            Builder::with_empty_auth(cc::PCR_ALLOCATE, &[rh::PLATFORM], 1).params(|w| w.put(&selection)).build();
        let answer = self.tpm.execute(0, &command);
        let parsed = response::parse(&answer, false).map_err(failed(WHAT))?;
        if parsed.params.first() != Some(&1) {
            return Err(SetupError::Banks);
        }
        self.shut_down()?;
        self.power_on()
    }

    /// The banks that have PCR.
    pub(super) fn banks(&mut self) -> Result<Vec<HashAlg>, SetupError> {
        let answer = self.tpm.execute(0, &command::get_capability_pcrs());
        let banks = response::parse_capability_pcrs(&answer).map_err(failed("TPM2_GetCapability"))?;
        Ok(banks.iter().filter(|bank| !bank.is_empty()).map(|bank| bank.alg).collect())
    }

    /// Makes an endorsement key and keeps it in the TPM.
    pub(super) fn endorsement_key(&mut self, key: EndorsementKey) -> Result<Public, SetupError> {
        self.persistent(rh::ENDORSEMENT, &key.template(), key.handle())
    }

    /// Makes the storage root key and keeps it in the TPM.
    pub(super) fn storage_root_key(&mut self, ecc: bool) -> Result<(), SetupError> {
        let template = if ecc { templates::srk_p256() } else { templates::srk_rsa2048() };
        self.persistent(rh::OWNER, &template, SRK).map(drop)
    }

    fn persistent(&mut self, hierarchy: Handle, template: &Public, at: Handle) -> Result<Public, SetupError> {
        let answer = self.tpm.execute(0, &command::create_primary(hierarchy, template));
        let key = response::parse_create_primary(&answer).map_err(failed("TPM2_CreatePrimary"))?;
        let evict = Builder::with_empty_auth(cc::EVICT_CONTROL, &[rh::OWNER, key.handle], 1).params(|w| w.put(&at));
        self.run("TPM2_EvictControl", &evict.build())?;
        self.run("TPM2_FlushContext", &command::flush_context(key.handle))?;
        Ok(key.public)
    }

    /// Defines an NV Index of the platform's, and writes a certificate into it; `lock` for good.
    pub(super) fn write_certificate(&mut self, index: Handle, der: &[u8], lock: bool) -> Result<(), SetupError> {
        let size = u16::try_from(der.len()).map_err(|_| SetupError::TooLong(index))?;
        let public = NvPublic {
            index,
            name_alg: HashAlg::Sha256,
            attributes: CERTIFICATE,
            auth_policy: Default::default(),
            data_size: size,
        };
        self.run("TPM2_NV_DefineSpace", &command::nv_define_space(rh::PLATFORM, &[], &public))?;
        let offsets = (0..size).step_by(MAX_NV_BUFFER_SIZE);
        for (part, offset) in der.chunks(MAX_NV_BUFFER_SIZE).zip(offsets) {
            self.run("TPM2_NV_Write", &command::nv_write(rh::PLATFORM, index, part, offset))?;
        }
        if lock {
            let lock = Builder::with_empty_auth(cc::NV_WRITE_LOCK, &[rh::PLATFORM, index], 1).build();
            self.run("TPM2_NV_WriteLock", &lock)?;
        }
        Ok(())
    }

    /// What the TPM says of itself.
    pub(super) fn identity(&mut self) -> Result<TpmIdentity, SetupError> {
        const FIRST: u32 = pt::FAMILY_INDICATOR;
        const COUNT: u32 = pt::FIRMWARE_VERSION_1 - FIRST + 1;
        let answer = self.tpm.execute(0, &command::get_capability(cap::TPM_PROPERTIES, FIRST, COUNT));
        let (_, list) = response::parse_capability_properties(&answer).map_err(failed("TPM2_GetCapability"))?;
        let value = |property| list.iter().find(|(p, _)| *p == property).map_or(0, |(_, value)| *value);
        let text = |properties: &[u32]| {
            let octets: Vec<u8> = properties.iter().flat_map(|p| value(*p).to_be_bytes()).filter(|&o| o != 0).collect();
            String::from_utf8_lossy(&octets).trim().to_owned()
        };
        let id = |property| format!("id:{:08X}", value(property));
        Ok(TpmIdentity {
            manufacturer: id(pt::MANUFACTURER),
            model: text(&[pt::VENDOR_STRING_1, pt::VENDOR_STRING_2, pt::VENDOR_STRING_3, pt::VENDOR_STRING_4]),
            version: id(pt::FIRMWARE_VERSION_1),
            family: text(&[pt::FAMILY_INDICATOR]),
            level: value(pt::LEVEL),
            revision: value(pt::REVISION),
        })
    }

    fn shut_down(&mut self) -> Result<(), SetupError> {
        self.run("TPM2_Shutdown", &command::shutdown(StartupType::Clear))
    }

    /// Ends the work. Answers the TPM's state.
    pub(super) fn finish(mut self) -> Result<zeroize::Zeroizing<Vec<u8>>, SetupError> {
        self.shut_down()?;
        Ok(self.tpm.permanent())
    }

    /// Any command, to look at what was made.
    #[cfg(test)]
    pub(super) fn execute(&mut self, command: &[u8]) -> Vec<u8> {
        self.tpm.execute(0, command)
    }
}

fn failed(what: &'static str) -> impl FnOnce(ResponseError) -> SetupError {
    move |source| SetupError::Tpm { what, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The platform's authorization is empty after every reset: without the lock it could write again.
    #[test]
    fn a_certificate_is_whole_in_its_index_and_locked_for_good() {
        let mut tpm = Workpiece::new().unwrap();
        let der: Vec<u8> = (0..1500_u32).map(|n| n as u8).collect();
        let index = EndorsementKey::L2P256.certificate_index();
        tpm.write_certificate(index, &der, true).unwrap();
        let mut read = Vec::new();
        for (size, offset) in [(1024, 0), (476, 1024)] {
            let answer = tpm.execute(&command::nv_read(rh::OWNER, index, size, offset));
            read.extend_from_slice(response::parse_nv_read(&answer).unwrap());
        }
        assert_eq!(read, der);
        tpm.shut_down().unwrap();
        tpm.power_on().unwrap();
        let again = response::parse_empty(&tpm.execute(&command::nv_write(rh::PLATFORM, index, &[0], 0)));
        assert_eq!(again, Err(ResponseError::Tpm(bulla_tpm_types::rc::NV_LOCKED)));
    }

    #[test]
    fn exactly_the_banks_that_are_wanted_are_there() {
        let mut tpm = Workpiece::new().unwrap();
        for banks in [&[HashAlg::Sha256][..], &[HashAlg::Sha1, HashAlg::Sha512], &HashAlg::ALL] {
            tpm.allocate(banks).unwrap();
            assert_eq!(tpm.banks().unwrap(), banks);
        }
    }

    #[test]
    fn the_identity_is_what_the_tpm_says() {
        let identity = Workpiece::new().unwrap().identity().unwrap();
        assert_eq!((identity.manufacturer.as_str(), identity.model.as_str()), ("id:42554C41", "bulla vTPM"));
        assert_eq!((identity.family.as_str(), identity.level, identity.revision), ("2.0", 0, 159));
    }
}
