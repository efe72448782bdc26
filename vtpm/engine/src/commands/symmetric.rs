//! Symmetric encryption and decryption with loaded keys (Part 3, 15.2 and 15.3).

use bulla_tpm_types::{AlgId, Error, ErrorKind, ObjectAttributes as A, PublicKind, Rc, Reader, Symmetric, alg, rc};
use zeroize::Zeroizing;

use super::MAX_BUFFER;
use crate::Tpm;
use crate::cipher;
use crate::crypto::{AES_BLOCK, Direction};
use crate::dispatch::Call;
use crate::selftest::TestSet;

/// What one of the commands asks for, with the numbers of its parameters.
struct Request<'a> {
    direction: Direction,
    mode: (AlgId, usize),
    iv: (&'a [u8], usize),
    data: (&'a [u8], usize),
}

/// TPMI_ALG_CIPHER_MODE+ (Part 2, 9.38).
fn mode(r: &mut Reader<'_>) -> Result<AlgId, Error> {
    let at = r.clone();
    let mode = r.get()?;
    let known = cipher::encrypts(mode) || mode == alg::NULL;
    if known { Ok(mode) } else { Err(at.error(ErrorKind::Mode, "TPMI_ALG_CIPHER_MODE")) }
}

const fn direction(decrypt: bool) -> Direction {
    if decrypt { Direction::Decrypt } else { Direction::Encrypt }
}

/// TPM2_EncryptDecrypt (15.2).
pub(crate) fn encrypt_decrypt(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let request = call.params(|p| {
        Ok(Request {
            direction: direction(p.yes_no("decrypt")?),
            mode: (p.with(mode)?, 2),
            iv: (p.tpm2b(AES_BLOCK, "TPM2B_IV")?, 3),
            data: (p.tpm2b(MAX_BUFFER, "inData")?, 4),
        })
    })?;
    run(tpm, call, &request)
}

/// TPM2_EncryptDecrypt2 (15.3): the same, with the data first, so that a session can encrypt them.
pub(crate) fn encrypt_decrypt_2(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let request = call.params(|p| {
        let data = (p.tpm2b(MAX_BUFFER, "inData")?, 1);
        let direction = direction(p.yes_no("decrypt")?);
        Ok(Request { direction, mode: (p.with(mode)?, 3), iv: (p.tpm2b(AES_BLOCK, "TPM2B_IV")?, 4), data })
    })?;
    run(tpm, call, &request)
}

fn run(tpm: &mut Tpm, call: &mut Call<'_, '_>, request: &Request<'_>) -> Result<(), Rc> {
    tpm.require(TestSet::AES)?;
    let key = tpm.objects.key(call.handle(1)).map_err(|e| e.handle(1))?;
    let PublicKind::SymCipher { sym: Symmetric::Aes { mode: own, .. }, .. } = key.public.kind else {
        return Err(rc::KEY.handle(1));
    };
    // A restricted key works for the TPM only: it protects children.
    let allowed = match request.direction {
        Direction::Encrypt => A::SIGN,
        Direction::Decrypt => A::DECRYPT,
    };
    if key.has(A::RESTRICTED) || !key.has(allowed) {
        return Err(rc::ATTRIBUTES.handle(1));
    }
    let (wanted, number) = request.mode;
    let mode = match (own, wanted) {
        (own, _) if own != alg::NULL && !cipher::encrypts(own) => return Err(rc::MODE.handle(1)),
        (alg::NULL, alg::NULL) => return Err(rc::MODE.parameter(number)),
        (alg::NULL, wanted) => wanted,
        (own, alg::NULL) => own,
        (own, wanted) if own == wanted => own,
        _ => return Err(rc::MODE.parameter(number)),
    };
    let (iv, number) = request.iv;
    let mut chain = [0; AES_BLOCK];
    // ECB chains nothing, so its IV is empty; every other mode's is a block.
    let iv_out = if mode == alg::ECB { 0 } else { AES_BLOCK };
    if iv.len() != iv_out {
        return Err(rc::SIZE.parameter(number));
    }
    chain.iter_mut().zip(iv).for_each(|(to, from)| *to = *from);
    let (data, number) = request.data;
    if cipher::takes_blocks(mode) && !data.len().is_multiple_of(AES_BLOCK) {
        return Err(rc::SIZE.parameter(number));
    }
    let mut data = Zeroizing::new(data.to_vec());
    let secret = key.data().ok_or(rc::KEY.handle(1))?;
    cipher::crypt(secret, mode, &mut chain, &mut data, request.direction).ok_or(rc::FAILURE)?;
    let out = call.out();
    out.tpm2b(&data);
    out.tpm2b(chain.get(..iv_out).unwrap_or_default());
    Ok(())
}
