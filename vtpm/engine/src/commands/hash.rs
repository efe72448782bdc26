//! Hashes, HMACs and their sequences (Part 3, 15.4, 15.5 and 17).

use bulla_tpm_types::{
    Digest, Handle, HashAlg, KeyedHashScheme, ObjectAttributes as A, PublicKind, Rc, TkCreation, hash as hashes, rc,
    rh, st,
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
    tpm.require(alg.map_or(TestSet::BANKS, TestSet::hash))?;
    let sequence = Kind::Sequence(Sequence::new(alg));
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
    let digest = digest.digest();
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

/// The hash of a keyed hash's HMAC: the key's own, or the caller's if the key has none (Part 3, 15.5 and 17.2).
fn hmac_scheme(key: &Key, wanted: Option<HashAlg>) -> Result<HashAlg, Rc> {
    let PublicKind::KeyedHash { scheme, .. } = &key.public.kind else {
        return Err(rc::TYPE.handle(1));
    };
    // Restricted keys sign by TPM2_Sign only, where tickets are checked.
    if key.has(A::RESTRICTED) {
        return Err(rc::ATTRIBUTES.handle(1));
    }
    if !key.signs() {
        return Err(rc::KEY.handle(1));
    }
    match (scheme, wanted) {
        (KeyedHashScheme::Null, Some(hash)) => Ok(hash),
        (KeyedHashScheme::Hmac(own), None) => Ok(*own),
        (KeyedHashScheme::Hmac(own), Some(hash)) if *own == hash => Ok(hash),
        _ => Err(rc::VALUE.parameter(2)),
    }
}

/// TPM2_HMAC (15.5).
pub(crate) fn hmac_data(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let (data, wanted) = call.params(|p| Ok((p.tpm2b(MAX_BUFFER, "buffer")?, p.with(HashAlg::unmarshal_or_null)?)))?;
    let key = tpm.objects.key(call.handle(1)).map_err(|_| rc::TYPE.handle(1))?;
    let alg = hmac_scheme(key, wanted)?;
    let mac = hmac(alg, key.data().ok_or(rc::TYPE.handle(1))?, &[data]);
    tpm.require(TestSet::hash(alg) | TestSet::DRBG)?;
    call.out().put(&mac.digest());
    Ok(())
}

/// TPM2_HMAC_Start (17.2).
pub(crate) fn hmac_start(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let (auth, wanted) = call.params(|p| Ok((p.tpm2b(MAX_AUTH, "auth")?, p.with(HashAlg::unmarshal_or_null)?)))?;
    let key = tpm.objects.key(call.handle(1)).map_err(|_| rc::TYPE.handle(1))?;
    let alg = hmac_scheme(key, wanted)?;
    let sequence = Sequence::hmac(alg, key.data().ok_or(rc::TYPE.handle(1))?);
    tpm.require(TestSet::hash(alg) | TestSet::DRBG)?;
    let object = Object { kind: Kind::Sequence(sequence), auth: AuthValue::new(auth) };
    call.answer_handle(tpm.objects.insert(object)?);
    Ok(())
}
