//! NV commands (Part 3, 31).

use bulla_tpm_types::{
    Attested, Data, Digest, ErrorKind, MAX_NV_BUFFER_SIZE, NvAttributes as A, NvKind, NvPublic, Rc, Reader, Unmarshal,
    hash, rc, rh,
};

use super::sign;
use crate::Tpm;
use crate::dispatch::{Call, Params};
use crate::nv::{MAX_INDEX_SIZE, NUMBER_SIZE};
use crate::secret::{AuthValue, MAX_DIGEST};
use crate::selftest::TestSet;

/// TPM2B_NV_PUBLIC: a size that is not the structure's, be it too small, is TPM_RC_SIZE.
fn nv_public(r: &mut Reader<'_>) -> Result<NvPublic, bulla_tpm_types::Error> {
    let at = r.clone();
    let wrong = || at.error(ErrorKind::Size, "TPM2B_NV_PUBLIC");
    let size = r.u16("TPM2B_NV_PUBLIC")?;
    if size == 0 {
        return Err(wrong());
    }
    let start = r.offset();
    let public = NvPublic::unmarshal(r)?;
    if r.offset() - start == usize::from(size) { Ok(public) } else { Err(wrong()) }
}

/// TPM2B_MAX_NV_BUFFER.
fn nv_buffer<'a>(p: &mut Params<'a>) -> Result<&'a [u8], Rc> {
    p.tpm2b(MAX_NV_BUFFER_SIZE, "TPM2B_MAX_NV_BUFFER")
}

/// What is wrong with the public area of an index to be defined (Part 3, 31.3.1), but for who defines it.
fn check_public(public: &NvPublic) -> Result<(), Rc> {
    let has = |a: A| public.attributes.contains(a);
    let name_size = public.name_alg.size();
    if public.data_size > MAX_INDEX_SIZE || (!public.auth_policy.is_empty() && public.auth_policy.len() != name_size) {
        return Err(rc::SIZE);
    }
    let kind = public.attributes.kind().ok_or(rc::ATTRIBUTES)?;
    let fits = match kind {
        NvKind::Ordinary => true,
        NvKind::Extend => usize::from(public.data_size) == name_size,
        NvKind::Counter | NvKind::Bits | NvKind::PinFail | NvKind::PinPass => public.data_size == NUMBER_SIZE,
    };
    if !fits {
        return Err(rc::SIZE);
    }
    let wrong = match kind {
        // Counters are not cleared.
        NvKind::Counter => has(A::CLEAR_ST_CLEAR),
        // A PIN's authValue cannot be used before the PIN is written, and a PIN cannot be frozen.
        NvKind::PinFail | NvKind::PinPass => {
            public.attributes.intersects(A::AUTH_WRITE | A::GLOBAL_LOCK | A::WRITE_DEFINE)
                || (kind == NvKind::PinFail && !has(A::NO_DA))
        }
        NvKind::Ordinary | NvKind::Bits | NvKind::Extend => false,
    };
    let readers = A::OWNER_READ | A::PP_READ | A::AUTH_READ | A::POLICY_READ;
    let writers = A::OWNER_WRITE | A::PP_WRITE | A::AUTH_WRITE | A::POLICY_WRITE;
    if wrong
        || public.attributes.intersects(A::WRITTEN | A::WRITE_LOCKED | A::READ_LOCKED)
        || !public.attributes.intersects(readers)
        || !public.attributes.intersects(writers)
        || has(A::CLEAR_ST_CLEAR | A::WRITE_DEFINE)
    {
        return Err(rc::ATTRIBUTES);
    }
    Ok(())
}

/// TPM2_NV_DefineSpace (31.3).
pub(crate) fn define_space(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let (auth, public) = call.params(|p| Ok((p.tpm2b(MAX_DIGEST, "TPM2B_AUTH")?, p.with(nv_public)?)))?;
    let auth = AuthValue::new(auth);
    let by_platform = call.handle(1) == rh::PLATFORM;
    let has = |a: A| public.attributes.contains(a);
    if auth.as_bytes().len() > public.name_alg.size() {
        return Err(rc::SIZE.parameter(1));
    }
    if !tpm.nv_is_enabled(by_platform) {
        return Err(rc::HIERARCHY.handle(1));
    }
    check_public(&public).map_err(|e| e.parameter(2))?;
    // Whoever defines it has to be able to remove it.
    if has(A::PLATFORM_CREATE) != by_platform {
        return Err(rc::ATTRIBUTES.handle(1));
    }
    if has(A::POLICY_DELETE) && !by_platform {
        return Err(rc::ATTRIBUTES.parameter(2));
    }
    // What is written at once has to fit a command.
    if has(A::WRITE_ALL) && usize::from(public.data_size) > MAX_NV_BUFFER_SIZE {
        return Err(rc::SIZE.parameter(2));
    }
    tpm.require(TestSet::hash(public.name_alg))?;
    tpm.nv.define(public, auth)?;
    tpm.permanent_changed();
    Ok(())
}

/// TPM2_NV_UndefineSpace (31.4).
pub(crate) fn undefine_space(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    call.no_params()?;
    let index = tpm.nv_index(call.handle(2))?;
    if index.has(A::POLICY_DELETE) {
        return Err(rc::ATTRIBUTES.handle(2));
    }
    if index.has(A::PLATFORM_CREATE) && call.handle(1) == rh::OWNER {
        return Err(rc::NV_AUTHORIZATION);
    }
    tpm.nv.undefine(call.handle(2));
    tpm.permanent_changed();
    Ok(())
}

/// TPM2_NV_UndefineSpaceSpecial (31.5).
pub(crate) fn undefine_space_special(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    call.no_params()?;
    if !tpm.nv_index(call.handle(1))?.has(A::POLICY_DELETE) {
        return Err(rc::ATTRIBUTES.handle(1));
    }
    tpm.nv.undefine(call.handle(1));
    tpm.permanent_changed();
    Ok(())
}

/// TPM2_NV_ReadPublic (31.6).
pub(crate) fn read_public(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    call.no_params()?;
    let index = tpm.nv_index(call.handle(1))?;
    let out = call.out();
    out.sized(|w| w.put(&index.public));
    out.put(&index.name());
    Ok(())
}

/// TPM2_NV_Write (31.7).
pub(crate) fn write(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let (data, offset) = call.params(|p| Ok((nv_buffer(p)?, p.u16("offset")?)))?;
    let index = tpm.nv_index(call.handle(2))?;
    index.check_write(call.handle(1))?;
    if matches!(index.kind(), NvKind::Counter | NvKind::Bits | NvKind::Extend) {
        return Err(rc::ATTRIBUTES);
    }
    let (offset, size) = (usize::from(offset), index.data().len());
    if offset > size {
        return Err(rc::VALUE.parameter(2));
    }
    if index.has(A::WRITE_ALL) && data.len() < size {
        return Err(rc::NV_RANGE);
    }
    tpm.nv_write(call.handle(2), offset, data)
}

/// TPM2_NV_Increment (31.8).
pub(crate) fn increment(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    call.no_params()?;
    let index = tpm.nv_index(call.handle(2))?;
    index.check_write(call.handle(1))?;
    if index.kind() != NvKind::Counter {
        return Err(rc::ATTRIBUTES.handle(2));
    }
    tpm.nv_increment(call.handle(2))
}

/// TPM2_NV_Extend (31.9).
pub(crate) fn extend(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let data = call.params(nv_buffer)?;
    let index = tpm.nv_index(call.handle(2))?;
    index.check_write(call.handle(1))?;
    if index.kind() != NvKind::Extend {
        return Err(rc::ATTRIBUTES.handle(2));
    }
    let zeros = [0; MAX_DIGEST];
    let before = if index.has(A::WRITTEN) { index.data() } else { zeros.get(..index.data().len()).unwrap_or_default() };
    let after = hash::digest(index.public.name_alg, &[before, data]);
    tpm.nv_write(call.handle(2), 0, after.as_bytes())
}

/// TPM2_NV_SetBits (31.10).
pub(crate) fn set_bits(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let bits = call.params(|p| p.with(|r| r.u64("bits")))?;
    let index = tpm.nv_index(call.handle(2))?;
    index.check_write(call.handle(1))?;
    if index.kind() != NvKind::Bits {
        return Err(rc::ATTRIBUTES.handle(2));
    }
    let before = if index.has(A::WRITTEN) { index.number() } else { 0 };
    tpm.nv_write(call.handle(2), 0, &(before | bits).to_be_bytes())
}

/// TPM2_NV_WriteLock (31.11). To lock what is locked is no error.
pub(crate) fn write_lock(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    call.no_params()?;
    let index = tpm.nv_index(call.handle(2))?;
    match index.check_write(call.handle(1)) {
        Err(rc::NV_LOCKED) => return Ok(()),
        other => other?,
    }
    if !index.public.attributes.intersects(A::WRITE_DEFINE | A::WRITE_ST_CLEAR) {
        return Err(rc::ATTRIBUTES.handle(2));
    }
    tpm.nv_set(call.handle(2), A::WRITE_LOCKED);
    Ok(())
}

/// TPM2_NV_GlobalWriteLock (31.12).
pub(crate) fn global_write_lock(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    call.no_params()?;
    tpm.nv.lock_global();
    tpm.permanent_changed();
    Ok(())
}

/// Checks what of an index is to be read.
fn readable(data: &[u8], offset: u16, size: u16) -> Option<&[u8]> {
    data.get(usize::from(offset)..)?.get(..usize::from(size))
}

/// TPM2_NV_Read (31.13).
pub(crate) fn read(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let (size, offset) = call.params(|p| Ok((p.u16("size")?, p.u16("offset")?)))?;
    let index = tpm.nv_index(call.handle(2))?;
    index.check_read(call.handle(1))?;
    if usize::from(size) > MAX_NV_BUFFER_SIZE {
        return Err(rc::VALUE.parameter(1));
    }
    if usize::from(offset) > index.data().len() {
        return Err(rc::VALUE.parameter(2));
    }
    let data = readable(index.data(), offset, size).ok_or(rc::NV_RANGE)?;
    call.out().tpm2b(data);
    Ok(())
}

/// TPM2_NV_ReadLock (31.14). To lock what is locked, or not yet written, is no error.
pub(crate) fn read_lock(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    call.no_params()?;
    let index = tpm.nv_index(call.handle(2))?;
    match index.check_read(call.handle(1)) {
        Err(rc::NV_LOCKED) => return Ok(()),
        Err(rc::NV_UNINITIALIZED) => {}
        other => other?,
    }
    if !index.has(A::READ_ST_CLEAR) {
        return Err(rc::ATTRIBUTES.handle(2));
    }
    tpm.nv_set(call.handle(2), A::READ_LOCKED);
    Ok(())
}

/// TPM2_NV_ChangeAuth (31.15).
pub(crate) fn change_auth(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let auth = AuthValue::new(call.params(|p| p.tpm2b(MAX_DIGEST, "TPM2B_AUTH"))?);
    if auth.as_bytes().len() > tpm.nv_index(call.handle(1))?.public.name_alg.size() {
        return Err(rc::SIZE.parameter(1));
    }
    tpm.nv_set_auth(call.handle(1), auth);
    Ok(())
}

/// TPM2_NV_Certify (31.16): of size and offset 0 is attested the digest of all data.
pub(crate) fn certify(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let (extra_data, scheme, size, offset) =
        call.params(|p| Ok((p.get::<Data>()?, p.with(sign::sig_scheme)?, p.u16("size")?, p.u16("offset")?)))?;
    super::attest::require_tests(tpm)?;
    let signer = tpm.signer(call, 1, (scheme, 2))?;
    let index = tpm.nv_index(call.handle(3))?;
    index.check_read(call.handle(2))?;
    let contents = readable(index.data(), offset, size).ok_or(rc::NV_RANGE)?;
    if contents.len() > MAX_NV_BUFFER_SIZE {
        return Err(rc::VALUE.parameter(3));
    }
    let index_name = index.name();
    let attested = if (size, offset) == (0, 0) {
        // The digest is of the algorithm of the signature: without one there is none.
        let nv_digest = signer.hash().map_or(Digest::EMPTY, |alg| hash::digest(alg, &[index.data()]).digest());
        Attested::NvDigest { index_name, nv_digest }
    } else {
        Attested::Nv { index_name, offset, contents: contents.to_vec() }
    };
    tpm.attest(call, &signer, extra_data, attested)
}
