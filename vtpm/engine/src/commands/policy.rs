//! Enhanced authorization (Part 3, 23): what can be said of the command and of the TPM.

use alloc::vec::Vec;

use bulla_tpm_types::{
    Digest, Error, ErrorKind, Ha, HashAlg, List, Locality, Marshal, PcrSelectionList, Rc, Reader, cc, hash, rc,
};

use crate::Tpm;
use crate::dispatch::Call;
use crate::selftest::TestSet;
use crate::session::{AuthNeed, Fixed, Session, SessionKind};
use crate::table;

/// The most digests of a TPML_DIGEST (Part 2, 10.9.5).
const MAX_DIGESTS: usize = 8;

impl Session {
    /// policyDigest ≔ H(policyDigest ‖ commandCode ‖ parts) (Part 1, 19.7.5).
    pub(crate) fn extend_policy(&mut self, code: u32, parts: &[&[u8]]) {
        let mut all = alloc::vec![self.policy.digest.as_bytes()];
        let code = code.to_be_bytes();
        all.push(&code);
        all.extend(parts);
        self.policy.digest = hash::digest(self.hash, &all);
    }

    /// Whether the session only computes a digest.
    pub(crate) fn is_trial(&self) -> bool {
        self.kind == SessionKind::Trial
    }

    /// Fixes something of the command. The three things that can be fixed exclude each other.
    ///
    /// # Errors
    /// TPM_RC_CPHASH when something else is fixed already. The same once more is no matter, but for Names: the field has to
    /// be empty then (Part 3, 23.14).
    pub(crate) fn fix(&mut self, fixed: Fixed) -> Result<(), Rc> {
        let again = self.policy.fixed == fixed && !matches!(fixed, Fixed::NameHash(_));
        if self.policy.fixed != Fixed::Nothing && !again {
            return Err(rc::CPHASH);
        }
        self.policy.fixed = fixed;
        Ok(())
    }
}

/// The policy session of handle `n`, after the tests of its hash algorithm.
pub(super) fn session<'t>(tpm: &'t mut Tpm, call: &Call<'_, '_>, n: usize) -> Result<&'t mut Session, Rc> {
    let handle = call.handle(n);
    let alg = tpm.sessions.get(handle).ok_or(rc::HANDLE.handle(n))?.hash;
    tpm.require(TestSet::hash(alg))?;
    tpm.sessions.get_mut(handle).ok_or(rc::HANDLE.handle(n))
}

/// TPM2_PolicyOR (23.6).
pub(crate) fn policy_or(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let list = call.params(|p| {
        p.with(|r| {
            let at = r.clone();
            let list = r.get::<List<Digest, MAX_DIGESTS>>()?;
            // At least two, or there would be nothing to choose (Part 2, 10.9.5).
            if list.len() < 2 { Err(at.error(ErrorKind::Size, "TPML_DIGEST")) } else { Ok(list) }
        })
    })?;
    let session = session(tpm, call, 1)?;
    let current = session.policy.digest;
    if !session.is_trial() && !list.iter().any(|d| d.as_bytes() == current.as_bytes()) {
        return Err(rc::VALUE.parameter(1));
    }
    session.policy.digest = Ha::zero(session.hash);
    let parts: Vec<&[u8]> = list.iter().map(Digest::as_bytes).collect();
    session.extend_policy(cc::POLICY_OR, &parts);
    Ok(())
}

/// TPM2_PolicyPCR (23.7).
pub(crate) fn policy_pcr(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let (wanted, selection) = call.params(|p| Ok((p.get::<Digest>()?, p.get::<PcrSelectionList>()?)))?;
    let alg = session(tpm, call, 1)?.hash;
    let selection = tpm.pcrs.filter(&selection);
    let current = tpm.pcrs.digest(alg, &selection);
    let counter = tpm.pcrs.update_counter();
    let session = session(tpm, call, 1)?;
    let digest = if session.is_trial() {
        if wanted.is_empty() { current } else { wanted }
    } else {
        if session.policy.pcr_counter.is_some_and(|c| c != counter) {
            return Err(rc::PCR_CHANGED);
        }
        if !wanted.is_empty() && wanted != current {
            return Err(rc::VALUE.parameter(1));
        }
        session.policy.pcr_counter = Some(counter);
        current
    };
    session.extend_policy(cc::POLICY_PCR, &[&selection.to_vec(), &digest]);
    Ok(())
}

/// TPM2_PolicyLocality (23.8).
pub(crate) fn policy_locality(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let locality = call.params(|p| p.get::<Locality>())?;
    let session = session(tpm, call, 1)?;
    let bits = locality.bits();
    let is_extended = bits >= 32;
    let together = match session.policy.locality {
        None => bits,
        // Localities 0 to 4 narrow each other down; an extended one goes with itself only.
        Some(before) if before.bits() < 32 && !is_extended => before.bits() & bits,
        Some(before) if before == locality => bits,
        Some(_) => 0,
    };
    if together == 0 {
        return Err(rc::RANGE.parameter(1));
    }
    session.policy.locality = Some(Locality::from_bits(together));
    session.extend_policy(cc::POLICY_LOCALITY, &[&[bits]]);
    Ok(())
}

/// TPM2_PolicyCommandCode (23.11).
pub(crate) fn policy_command_code(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let code = call.params(|p| p.u32("TPM_CC"))?;
    let session = session(tpm, call, 1)?;
    if session.policy.command.is_some_and(|c| c != code) {
        return Err(rc::VALUE.parameter(1));
    }
    if table::find(code).is_none() {
        return Err(rc::POLICY_CC.parameter(1));
    }
    session.policy.command = Some(code);
    session.extend_policy(cc::POLICY_COMMAND_CODE, &[&code.to_be_bytes()]);
    Ok(())
}

/// Reads the digest that PolicyCpHash, PolicyNameHash or PolicyTemplate fixes.
fn fix_digest(tpm: &mut Tpm, call: &Call<'_, '_>, code: u32, fixed: impl FnOnce(Digest) -> Fixed) -> Result<(), Rc> {
    let digest = call.params(|p| p.get::<Digest>())?;
    let session = session(tpm, call, 1)?;
    if digest.len() != session.hash.size() {
        return Err(rc::SIZE.parameter(1));
    }
    session.fix(fixed(digest))?;
    session.extend_policy(code, &[&digest]);
    Ok(())
}

/// TPM2_PolicyCpHash (23.13).
pub(crate) fn policy_cp_hash(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    fix_digest(tpm, call, cc::POLICY_CP_HASH, Fixed::CpHash)
}

/// TPM2_PolicyNameHash (23.14).
pub(crate) fn policy_name_hash(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    fix_digest(tpm, call, cc::POLICY_NAME_HASH, Fixed::NameHash)
}

/// TPM2_PolicyTemplate (23.21).
pub(crate) fn policy_template(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let digest = call.params(|p| p.get::<Digest>())?;
    match &session(tpm, call, 1)?.policy.fixed {
        Fixed::Template(set) if set.as_bytes() != digest.as_bytes() => return Err(rc::VALUE.parameter(1)),
        Fixed::Template(_) | Fixed::Nothing => {}
        _ => return Err(rc::CPHASH),
    }
    fix_digest(tpm, call, cc::POLICY_TEMPLATE, Fixed::Template)
}

/// TPM2_PolicyAuthValue (23.17).
pub(crate) fn policy_auth_value(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    call.no_params()?;
    let session = session(tpm, call, 1)?;
    session.policy.need = AuthNeed::Hmac;
    session.extend_policy(cc::POLICY_AUTH_VALUE, &[]);
    Ok(())
}

/// TPM2_PolicyPassword (23.18): the same policy as PolicyAuthValue, met in another way.
pub(crate) fn policy_password(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    call.no_params()?;
    let session = session(tpm, call, 1)?;
    session.policy.need = AuthNeed::Password;
    session.extend_policy(cc::POLICY_AUTH_VALUE, &[]);
    Ok(())
}

/// TPM2_PolicyGetDigest (23.19).
pub(crate) fn policy_get_digest(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    call.no_params()?;
    let digest = session(tpm, call, 1)?.policy.digest.digest();
    call.out().put(&digest);
    Ok(())
}

/// TPM2_PolicyNvWritten (23.20).
pub(crate) fn policy_nv_written(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let written = call.params(|p| p.yes_no("writtenSet"))?;
    let session = session(tpm, call, 1)?;
    if session.policy.nv_written.is_some_and(|w| w != written) {
        return Err(rc::VALUE.parameter(1));
    }
    session.policy.nv_written = Some(written);
    session.extend_policy(cc::POLICY_NV_WRITTEN, &[&[u8::from(written)]]);
    Ok(())
}

/// How PolicyCounterTimer and PolicyNV compare (TPM_EO; Part 2, 6.8): operands are as long as each other, and those of
/// the signed operations are in two's complement.
pub(super) fn compare(operation: u16, a: &[u8], b: &[u8]) -> Option<bool> {
    use core::cmp::Ordering::{Equal, Greater, Less};
    let unsigned = a.cmp(b);
    // In two's complement, the other sign bit is the other order.
    let negative = |x: &[u8]| x.first().is_some_and(|b| b & 0x80 != 0);
    let signed = match (negative(a), negative(b)) {
        (true, false) => Less,
        (false, true) => Greater,
        _ => unsigned,
    };
    Some(match operation {
        0 => unsigned == Equal,
        1 => unsigned != Equal,
        2 => signed == Greater,
        3 => unsigned == Greater,
        4 => signed == Less,
        5 => unsigned == Less,
        6 => signed != Less,
        7 => unsigned != Less,
        8 => signed != Greater,
        9 => unsigned != Greater,
        10 => a.iter().zip(b).all(|(a, b)| a & b == *b),
        11 => a.iter().zip(b).all(|(a, b)| a & b == 0),
        _ => return None,
    })
}

/// TPM_EO.
pub(super) fn comparison(r: &mut Reader<'_>) -> Result<u16, Error> {
    let at = r.clone();
    let operation = r.u16("TPM_EO")?;
    if operation <= 11 { Ok(operation) } else { Err(at.error(ErrorKind::Value, "TPM_EO")) }
}

/// TPM2_PolicyCounterTimer (23.10).
pub(crate) fn policy_counter_timer(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let (operand, offset, operation) =
        call.params(|p| Ok((p.get::<Digest>()?, p.u16("offset")?, p.with(comparison)?)))?;
    let info = tpm.time.info().to_vec();
    let session = session(tpm, call, 1)?;
    let start = usize::from(offset);
    if start > info.len() {
        return Err(rc::VALUE.parameter(2));
    }
    let field = info.get(start..).and_then(|i| i.get(..operand.len())).ok_or(rc::RANGE)?;
    if !session.is_trial() && compare(operation, field, &operand) != Some(true) {
        return Err(rc::POLICY);
    }
    let args = hash::digest(session.hash, &[&operand, &offset.to_be_bytes(), &operation.to_be_bytes()]);
    session.extend_policy(cc::POLICY_COUNTER_TIMER, &[args.as_bytes()]);
    Ok(())
}

/// The size of a digest, for parameters that may be empty.
pub(super) fn is_digest_or_empty(alg: HashAlg, bytes: &[u8]) -> bool {
    bytes.is_empty() || bytes.len() == alg.size()
}

#[cfg(test)]
mod tests {
    use super::compare;

    /// Signed and unsigned order differ where the first octet's sign bit does (Part 2, table of TPM_EO).
    #[test]
    fn signed_and_unsigned_comparisons() {
        let (minus, plus) = (&[0xff, 0x00][..], &[0x01, 0x00][..]);
        let all = |a: &[u8], b: &[u8]| (0..12).map(|op| compare(op, a, b).expect("an operation")).collect::<Vec<_>>();
        let t = true;
        let f = false;
        assert_eq!(all(minus, plus), [f, t, f, t, t, f, f, t, t, f, t, f]);
        assert_eq!(all(plus, minus), [f, t, t, f, f, t, t, f, f, t, f, f]);
        assert_eq!(all(plus, plus), [t, f, f, f, f, f, t, t, t, t, t, f]);
        assert_eq!(compare(12, plus, plus), None);
    }
}
