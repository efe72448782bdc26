//! Hashes, MACs and their sequences (Part 3, 15.4 to 15.6 and 17).

use bulla_tpm_types::{
    Digest, Error, ErrorKind, Handle, HashAlg, KeyedHashScheme, ObjectAttributes as A, PublicKind, Rc, Reader,
    Symmetric, TkCreation, alg, hash as hashes, rc, rh, st,
};

use super::{MAX_BUFFER, hierarchy};
use crate::Tpm;
use crate::crypto::hmac;
use crate::dispatch::Call;
use crate::object::{Key, Kind, Object};
use crate::pcr::HashSequence;
use crate::secret::{AuthValue, INTEGRITY_HASH};
use crate::selftest::TestSet;
use crate::sequence::{Sequence, SequenceKind, may_have_ticket};

/// The longest authValue.
const MAX_AUTH: usize = 64;

impl Tpm {
    /// TPMT_TK_HASHCHECK: proof that this TPM computed the digest, and that it is not of a structure that a TPM
    /// generated (Part 2, 10.7.6). A null ticket when `safe` is false or the hierarchy is TPM_RH_NULL.
    fn hash_ticket(&self, hierarchy: Handle, safe: bool, digest: &[u8]) -> TkCreation {
        let proof = self.hierarchies.get(hierarchy).filter(|_| safe && hierarchy != rh::NULL);
        let (hierarchy, digest) = match proof {
            Some(h) => {
                let tag = st::HASHCHECK.to_be_bytes();
                (hierarchy, hmac(INTEGRITY_HASH, &h.proof[..], &[&tag, digest]).digest())
            }
            None => (rh::NULL, Digest::EMPTY),
        };
        TkCreation { tag: st::HASHCHECK, hierarchy, digest }
    }

    /// The sequence object of a handle; TPM_RC_MODE for another kind of object.
    fn sequence(&mut self, handle: Handle, number: usize) -> Result<&mut Sequence, Rc> {
        match self.objects.get_mut(handle).map(|o| &mut o.kind) {
            Some(Kind::Sequence(sequence)) => Ok(sequence),
            _ => Err(rc::MODE.handle(number)),
        }
    }

    /// Takes the sequence object of a handle out of its slot.
    fn take_sequence(&mut self, handle: Handle) -> Option<Sequence> {
        match self.objects.remove(handle)?.kind {
            Kind::Sequence(sequence) => Some(sequence),
            Kind::Key(_) => None,
        }
    }
}

/// TPM2_Hash (15.4).
pub(crate) fn hash(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let (data, alg, hierarchy) =
        call.params(|p| Ok((p.tpm2b(MAX_BUFFER, "data")?, p.get::<HashAlg>()?, p.with(hierarchy)?)))?;
    tpm.require(TestSet::hash(alg) | TestSet::hash(INTEGRITY_HASH))?;
    let digest = hashes::digest(alg, &[data]).digest();
    let ticket = tpm.hash_ticket(hierarchy, may_have_ticket(data), &digest);
    call.out().put(&digest);
    call.out().put(&ticket);
    Ok(())
}

/// TPM2_HashSequenceStart (17.4).
pub(crate) fn hash_sequence_start(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let (auth, alg) = call.params(|p| Ok((p.tpm2b(MAX_AUTH, "auth")?, p.with(HashAlg::unmarshal_or_null)?)))?;
    tpm.require(alg.map_or(tpm.bank_tests(), TestSet::hash))?;
    let sequence = alg.map_or_else(|| Sequence::event(HashSequence::new(&tpm.pcrs)), Sequence::new);
    let sequence = Kind::Sequence(sequence);
    let handle = tpm.objects.insert(Object { kind: sequence, auth: AuthValue::new(auth) })?;
    call.answer_handle(handle);
    Ok(())
}

/// TPM2_SequenceUpdate (17.5).
pub(crate) fn sequence_update(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let data = call.params(|p| p.tpm2b(MAX_BUFFER, "buffer"))?;
    tpm.sequence(call.handle(1), 1)?.update(data);
    Ok(())
}

/// TPM2_SequenceComplete (17.6): the sequence object is flushed.
pub(crate) fn sequence_complete(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let (data, hierarchy) = call.params(|p| Ok((p.tpm2b(MAX_BUFFER, "buffer")?, p.with(hierarchy)?)))?;
    let handle = call.handle(1);
    if matches!(tpm.sequence(handle, 1)?.kind, SequenceKind::Event(_)) {
        return Err(rc::MODE.handle(1));
    }
    tpm.require(TestSet::hash(INTEGRITY_HASH))?;
    let mut sequence = tpm.take_sequence(handle).ok_or(rc::MODE.handle(1))?;
    sequence.update(data);
    let (digest, safe) = sequence.finish().ok_or(rc::MODE.handle(1))?;
    let ticket = tpm.hash_ticket(hierarchy, safe, &digest);
    call.out().put(&digest);
    call.out().put(&ticket);
    Ok(())
}

/// TPM2_EventSequenceComplete (17.7): the sequence object is flushed.
pub(crate) fn event_sequence_complete(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let data = call.params(|p| p.tpm2b(MAX_BUFFER, "buffer"))?;
    let (pcr, handle) = (call.handle(1), call.handle(2));
    let SequenceKind::Event(hash) = &tpm.sequence(handle, 2)?.kind else {
        return Err(rc::MODE.handle(2));
    };
    let mut hash = HashSequence::clone(hash);
    hash.update(data);
    let digests = hash.finish();
    tpm.checked_extend(call.locality, pcr, &digests)?;
    tpm.objects.remove(handle);
    call.out().put(&digests);
    Ok(())
}

/// How a key authenticates messages.
enum Mac {
    /// HMAC, with a KEYEDHASH.
    Hmac(HashAlg),
    /// CMAC, with a SYMCIPHER.
    Cmac,
}

/// TPMI_ALG_MAC_SCHEME+ (Part 2, 9.37); `None` is TPM_ALG_NULL.
fn mac_scheme(r: &mut Reader<'_>) -> Result<Option<Mac>, Error> {
    let at = r.clone();
    match r.get()? {
        alg::NULL => Ok(None),
        alg::CMAC => Ok(Some(Mac::Cmac)),
        other => match HashAlg::from_id(other) {
            Some(hash) => Ok(Some(Mac::Hmac(hash))),
            None => Err(at.error(ErrorKind::Symmetric, "TPMI_ALG_MAC_SCHEME")),
        },
    }
}

impl Mac {
    /// The MAC of a key: its own, or the caller's if it has none (Part 3, 15.6 and 17.3). What the key is comes
    /// before what it may do.
    fn select(key: &Key, wanted: Option<Self>) -> Result<Self, Rc> {
        let (wrong, misfit) = (rc::VALUE.parameter(2), rc::SCHEME.parameter(2));
        let mac = match &key.public.kind {
            PublicKind::KeyedHash { scheme, .. } => match (scheme, wanted) {
                (KeyedHashScheme::Null, None) => return Err(wrong),
                (KeyedHashScheme::Null, Some(Self::Cmac)) => return Err(misfit),
                (KeyedHashScheme::Null, Some(mac)) => mac,
                (KeyedHashScheme::Hmac(own) | KeyedHashScheme::Xor { hash: own, .. }, None) => Self::Hmac(*own),
                (KeyedHashScheme::Hmac(own) | KeyedHashScheme::Xor { hash: own, .. }, Some(Self::Hmac(hash)))
                    if *own == hash =>
                {
                    Self::Hmac(hash)
                }
                _ => return Err(wrong),
            },
            PublicKind::SymCipher { sym, .. } => match (sym, wanted) {
                (Symmetric::Aes { mode: alg::CMAC, .. }, None | Some(Self::Cmac)) => Self::Cmac,
                (Symmetric::Aes { mode: alg::NULL, .. }, Some(Self::Cmac)) => Self::Cmac,
                (Symmetric::Aes { mode: alg::NULL, .. }, Some(Self::Hmac(_))) => return Err(misfit),
                // A key that encrypts is not one that authenticates.
                (Symmetric::Aes { mode, .. }, None) if *mode != alg::NULL => return Err(misfit),
                _ => return Err(wrong),
            },
            _ => return Err(rc::TYPE.handle(1)),
        };
        // Restricted keys sign by TPM2_Sign only, where tickets are checked.
        if key.has(A::RESTRICTED) {
            return Err(rc::ATTRIBUTES.handle(1));
        }
        if key.signs() { Ok(mac) } else { Err(rc::KEY.handle(1)) }
    }

    fn begin(&self, key: &Key) -> Result<Sequence, Rc> {
        let data = key.data().ok_or(rc::TYPE.handle(1))?;
        match self {
            Self::Hmac(hash) => Ok(Sequence::hmac(*hash, data)),
            Self::Cmac => Sequence::cmac(data).ok_or(rc::KEY.handle(1)),
        }
    }

    fn tests(&self) -> TestSet {
        match self {
            Self::Hmac(hash) => TestSet::hash(*hash) | TestSet::DRBG,
            Self::Cmac => TestSet::AES,
        }
    }
}

/// TPM2_MAC (15.6), which is TPM2_HMAC (15.5) where the key is a KEYEDHASH.
pub(crate) fn mac(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let (data, wanted) = call.params(|p| Ok((p.tpm2b(MAX_BUFFER, "buffer")?, p.with(mac_scheme)?)))?;
    let key = tpm.objects.key(call.handle(1)).map_err(|_| rc::TYPE.handle(1))?;
    let mac = Mac::select(key, wanted)?;
    let mut sequence = mac.begin(key)?;
    tpm.require(mac.tests())?;
    sequence.update(data);
    let (mac, _) = sequence.finish().ok_or(rc::FAILURE)?;
    call.out().put(&mac);
    Ok(())
}

/// TPM2_MAC_Start (17.3), which is TPM2_HMAC_Start (17.2) where the key is a KEYEDHASH.
pub(crate) fn mac_start(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let (auth, wanted) = call.params(|p| Ok((p.tpm2b(MAX_AUTH, "auth")?, p.with(mac_scheme)?)))?;
    let key = tpm.objects.key(call.handle(1)).map_err(|_| rc::TYPE.handle(1))?;
    let mac = Mac::select(key, wanted)?;
    let sequence = mac.begin(key)?;
    tpm.require(mac.tests())?;
    let object = Object { kind: Kind::Sequence(sequence), auth: AuthValue::new(auth) };
    call.answer_handle(tpm.objects.insert(object)?);
    Ok(())
}
