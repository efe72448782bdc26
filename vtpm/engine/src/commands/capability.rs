//! GetCapability (Part 3, 30.2).

use bulla_tpm_types::{
    AlgId, Error, ErrorKind, Handle, IMPLEMENTATION_PCR, Rc, Reader, Writer, alg, cap, ht, pt, pt_pcr, rc, rh,
};

use super::properties;
use crate::dispatch::Call;
use crate::ecc;
use crate::pcr;
use crate::session::Sessions;
use crate::table::COMMANDS;
use crate::{Mode, Tpm};

/// TPM_PT_MAX_CAP_BUFFER: octets of a TPMS_CAPABILITY_DATA, with capability and count.
pub(super) const MAX_CAP_BUFFER: usize = 1024;
const MAX_CAP_DATA: usize = MAX_CAP_BUFFER - 4 - 4;

/// TPMA_ALGORITHM (Part 2, 8.2).
const ASYMMETRIC: u32 = 1;
const SYMMETRIC: u32 = 1 << 1;
const HASH: u32 = 1 << 2;
const OBJECT: u32 = 1 << 3;
const SIGNING: u32 = 1 << 8;
const ENCRYPTING: u32 = 1 << 9;
const METHOD: u32 = 1 << 10;

/// The algorithms that a client can use or name, in ascending order.
const ALGORITHMS: &[(AlgId, u32)] = &[
    (alg::RSA, ASYMMETRIC | OBJECT),
    (alg::SHA1, HASH),
    (alg::HMAC, HASH | SIGNING),
    (alg::AES, SYMMETRIC),
    (alg::KEYEDHASH, HASH | OBJECT | SIGNING | ENCRYPTING),
    (alg::XOR, SYMMETRIC | HASH),
    (alg::SHA256, HASH),
    (alg::SHA384, HASH),
    (alg::SHA512, HASH),
    (alg::RSASSA, ASYMMETRIC | SIGNING),
    (alg::RSAES, ASYMMETRIC | ENCRYPTING),
    (alg::RSAPSS, ASYMMETRIC | SIGNING),
    (alg::OAEP, ASYMMETRIC | ENCRYPTING),
    (alg::ECDSA, ASYMMETRIC | SIGNING | METHOD),
    (alg::ECDH, ASYMMETRIC),
    (alg::ECDAA, ASYMMETRIC | SIGNING),
    (alg::ECSCHNORR, ASYMMETRIC | SIGNING),
    (alg::KDF1_SP800_56A, HASH | METHOD),
    (alg::KDF2, HASH | METHOD),
    (alg::KDF1_SP800_108, HASH | METHOD),
    (alg::ECC, ASYMMETRIC | OBJECT),
    (alg::SYMCIPHER, OBJECT),
    (alg::CMAC, SYMMETRIC | SIGNING),
    (alg::CTR, SYMMETRIC | ENCRYPTING),
    (alg::OFB, SYMMETRIC | ENCRYPTING),
    (alg::CBC, SYMMETRIC | ENCRYPTING),
    (alg::CFB, SYMMETRIC | ENCRYPTING),
    (alg::ECB, SYMMETRIC | ENCRYPTING),
];

/// Whether an algorithm is one of TPM_CAP_ALGS.
pub(super) fn is_implemented(id: AlgId) -> bool {
    ALGORITHMS.iter().any(|(known, _)| *known == id)
}

/// The octets of the largest TPMS_TAGGED_POLICY (Part 2, 10.8.4).
const MAX_TAGGED_POLICY: usize = 4 + 2 + 64;

/// PT_GROUP: how many properties a group of TPM_PT has (Part 2, 6.13).
const PT_GROUP: u32 = 0x100;

/// The permanent handles, in ascending order.
const PERMANENT: [Handle; 7] =
    [rh::OWNER, rh::NULL, rh::PW, rh::LOCKOUT, rh::ENDORSEMENT, rh::PLATFORM, rh::PLATFORM_NV];

/// TPM_CAP_VENDOR_PROPERTY: there are none.
const VENDOR_PROPERTY: u32 = 0x100;

/// TPM_CAP (Part 2, 6.12).
fn capability_id(r: &mut Reader<'_>) -> Result<u32, Error> {
    let at = r.clone();
    let id = r.u32("TPM_CAP")?;
    let known = id <= cap::AUTH_POLICIES || id == VENDOR_PROPERTY;
    if known { Ok(id) } else { Err(at.error(ErrorKind::Value, "TPM_CAP")) }
}

/// TPM2_GetCapability: ascending order, moreData when there is more from `property` on than was answered, and
/// an empty list above the range.
pub(crate) fn get_capability(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let (capability, property, count) =
        call.params(|p| Ok((p.with(capability_id)?, p.u32("property")?, p.u32("propertyCount")?)))?;
    // Part 1, 12.4: in failure mode only enough to tell which TPM it is.
    if tpm.mode == Mode::Failed && capability != cap::TPM_PROPERTIES {
        return Err(rc::FAILURE);
    }
    let mut list = CapabilityList { out: call.out(), capability, limit: count };
    match capability {
        cap::ALGS => list.put(6, ALGORITHMS.iter().filter(|(id, _)| u32::from(id.0) >= property), |w, (id, a)| {
            w.put(id);
            w.u32(*a);
        }),
        cap::HANDLES => {
            let handles = |h: &Handle| h.0 >= property;
            match property.to_be_bytes()[0] {
                ht::PCR => list.put_handles((0..IMPLEMENTATION_PCR).map(Handle).filter(handles)),
                ht::TRANSIENT => list.put_handles(tpm.objects.handles().filter(handles)),
                ht::PERMANENT => list.put_handles(PERMANENT.into_iter().filter(handles)),
                ht::PERSISTENT => list.put_handles(tpm.objects.persistent().filter(handles)),
                ht::LOADED_SESSION => list.put_handles(tpm.sessions.loaded().filter(Sessions::from(property))),
                ht::SAVED_SESSION => list.put_handles(tpm.sessions.saved_handles().filter(Sessions::from(property))),
                ht::NV_INDEX => list.put_handles(tpm.nv.handles().filter(handles)),
                _ => return Err(rc::HANDLE.parameter(2)),
            }
        }
        cap::COMMANDS => list.put(4, COMMANDS.iter().filter(|c| c.code >= property), |w, c| w.u32(c.tpma_cc())),
        cap::PP_COMMANDS => list.put(4, tpm.presence.commands().filter(|c| *c >= property), Writer::u32),
        cap::AUDIT_COMMANDS => list.put(4, tpm.audit.commands().filter(|c| *c >= property), Writer::u32),
        cap::PCRS => {
            // The one value is answered whole.
            if property != 0 {
                return Err(rc::VALUE.parameter(2));
            }
            let selections = tpm.pcrs.allocation().selections();
            let out = call.out();
            out.u8(0);
            out.u32(capability);
            out.put(&selections);
        }
        // Part 2, 6.13: a list does not go beyond the group that it begins in.
        cap::TPM_PROPERTIES => {
            let group = property.max(pt::FIXED) / PT_GROUP;
            let wanted = |p: u32| p >= property && p / PT_GROUP == group;
            list.put(8, properties::all(tpm).filter(|(p, _)| wanted(*p)), |w, (p, value)| {
                w.u32(p);
                w.u32(value);
            });
        }
        cap::PCR_PROPERTIES => {
            let all = (property..=pt_pcr::AUTH).filter_map(|p| Some((p, pcr::with_property(p)?)));
            list.put(8, all, |w, (p, select)| {
                w.u32(p);
                w.u8(select.len() as u8);
                w.bytes(&select);
            });
        }
        cap::ECC_CURVES => {
            list.put(2, ecc::CURVES.iter().filter(|c| u32::from(**c) >= property), |w, c| w.u16(*c));
        }
        cap::AUTH_POLICIES => {
            // Part 3, 30.2: the policies of permanent handles.
            if property.to_be_bytes()[0] != ht::PERMANENT {
                return Err(rc::VALUE.parameter(2));
            }
            let policies = PERMANENT.into_iter().filter(|h| h.0 >= property && *h != rh::NULL);
            list.put(MAX_TAGGED_POLICY, policies.filter_map(|h| Some((h, tpm.hierarchies.policy(h)?))), |w, (h, p)| {
                w.put(&h);
                w.put(p);
            });
        }
        _ => return Err(rc::VALUE.parameter(1)),
    }
    Ok(())
}

/// Writes moreData, capability, count and the elements of one list.
struct CapabilityList<'w> {
    out: &'w mut Writer,
    capability: u32,
    limit: u32,
}

impl CapabilityList<'_> {
    /// Writes as many elements, of `size` octets each, as were asked for and fit.
    fn put<T>(&mut self, size: usize, elements: impl Iterator<Item = T>, write: impl Fn(&mut Writer, T)) {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX).min(MAX_CAP_DATA / size);
        let mut elements = elements.peekable();
        let at = self.out.len();
        self.out.u8(0);
        self.out.u32(self.capability);
        self.out.u32(0);
        let mut count = 0u32;
        for element in elements.by_ref().take(limit) {
            write(self.out, element);
            count += 1;
        }
        let more = u8::from(elements.peek().is_some());
        self.out.patch(at, &[more]);
        self.out.patch(at + 1 + 4, &count.to_be_bytes());
    }

    fn put_handles(&mut self, handles: impl Iterator<Item = Handle>) {
        self.put(4, handles, |w, h| w.put(&h));
    }
}
