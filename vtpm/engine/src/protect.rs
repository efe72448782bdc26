//! Protection of what leaves the TPM and comes back: encryption, then an HMAC over the result (Part 1, 22 and 24).

use alloc::boxed::Box;
use alloc::vec::Vec;

use bulla_tpm_types::{AlgId, Digest, Error, HashAlg, PublicKind, Rc, Reader, Writer, alg, rc};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use super::create;
use super::crypto::{AES_BLOCK, Direction, aes_cfb, hmac, kdfa};
use super::drbg::Drbg;
use super::ecc::PrivateKey;
use super::object::{Material, Private, Protector};
use super::rsa;
use super::secret::{AuthValue, Secret};

/// The largest AES key.
const MAX_KEY: usize = 32;
/// The largest sensitive value: TPM2B_SENSITIVE_DATA.
pub(super) const MAX_DATA: usize = 128;
/// The largest TPM2B_PRIVATE_KEY_RSA: a prime of an RSA-4096 key.
const MAX_PRIME: usize = 256;
/// The longest authValue and seed.
const MAX_DIGEST: usize = 64;

/// Whether an IV is drawn and travels along. Keys that protect once only need none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Iv {
    Fresh,
    Zero,
}

impl Protector<'_> {
    fn cipher(&self, name: &[u8], iv: &[u8; AES_BLOCK], data: &mut [u8], direction: Direction) -> Result<(), Rc> {
        let mut key = Zeroizing::new([0; MAX_KEY]);
        let key = key.get_mut(..usize::from(self.key_bits / 8)).ok_or(rc::FAILURE)?;
        kdfa(self.name_alg, self.seed, "STORAGE", name, &[], key);
        aes_cfb(key, iv, data, direction).ok_or(rc::FAILURE)
    }

    /// The HMAC over what is encrypted and the Name.
    fn integrity(&self, name: &[u8], protected: &[u8]) -> bulla_tpm_types::Ha {
        let mut key = Zeroizing::new([0; MAX_DIGEST]);
        let key = key.get_mut(..self.name_alg.size()).unwrap_or_default();
        kdfa(self.name_alg, self.seed, "INTEGRITY", &[], &[], key);
        hmac(self.name_alg, key, &[protected, name])
    }

    /// Protects `plain`, for which `name` stands: TPM2B integrity, the IV as a TPM2B if there is one, and the
    /// encrypted octets.
    pub(super) fn wrap(&self, name: &[u8], random: Option<&mut Drbg>, plain: &[u8]) -> Result<Vec<u8>, Rc> {
        let mut iv = [0; AES_BLOCK];
        let mut w = Writer::new();
        if let Some(random) = random {
            random.generate(&mut iv);
            w.tpm2b(&iv);
        }
        let mut data = plain.to_vec();
        let encrypted = self.cipher(name, &iv, &mut data, Direction::Encrypt);
        if let Err(e) = encrypted {
            data.zeroize();
            return Err(e);
        }
        w.bytes(&data);
        let protected = w.into_vec();
        let mut out = Writer::new();
        out.put(&self.integrity(name, &protected).digest());
        out.bytes(&protected);
        Ok(out.into_vec())
    }

    /// The other side of [`Protector::wrap`].
    ///
    /// # Errors
    /// TPM_RC_INTEGRITY when this is not what was protected under that name; TPM_RC_SIZE or TPM_RC_INSUFFICIENT
    /// when it does not have the form.
    pub(super) fn unwrap(&self, name: &[u8], iv: Iv, blob: &[u8]) -> Result<Zeroizing<Vec<u8>>, Rc> {
        let form = |e: Error| e.rc();
        let mut r = Reader::new(blob);
        let integrity = r.get::<Digest>().map_err(form)?;
        let protected = r.rest();
        if !bool::from(self.integrity(name, protected).as_bytes().ct_eq(&integrity)) {
            return Err(rc::INTEGRITY);
        }
        let mut first = [0; AES_BLOCK];
        if iv == Iv::Fresh {
            let sent = r.tpm2b(AES_BLOCK, "TPM2B_IV").map_err(form)?;
            first = sent.try_into().map_err(|_| rc::SIZE)?;
        }
        let mut data = Zeroizing::new(r.rest().to_vec());
        self.cipher(name, &first, &mut data, Direction::Decrypt)?;
        Ok(data)
    }
}

/// The type of an object's sensitive area.
pub(super) fn sensitive_type(kind: &PublicKind) -> AlgId {
    kind.id()
}

/// Writes a TPM2B_SENSITIVE (Part 2, 12.3.2.4) with its size.
pub(super) fn put_sensitive(w: &mut Writer, kind: AlgId, auth: &[u8], private: &Private) {
    w.sized(|w| {
        w.put(&kind);
        w.tpm2b(auth);
        w.tpm2b(&private.seed);
        match &private.material {
            Material::Ecc(key) => w.tpm2b(&key.to_bytes()),
            Material::Rsa(key) => w.tpm2b(&key.prime()),
            Material::Data(data) => w.tpm2b(data),
        }
    });
}

/// A sensitive area as it was read: its authValue, and the rest as raw octets.
pub(super) struct Sensitive<'a> {
    pub(super) kind: AlgId,
    pub(super) auth: AuthValue,
    seed: &'a [u8],
    value: &'a [u8],
}

impl<'a> Sensitive<'a> {
    /// Reads a TPMT_SENSITIVE.
    pub(super) fn unmarshal(r: &mut Reader<'a>) -> Result<Self, Error> {
        let at = r.clone();
        let kind = r.get::<AlgId>()?;
        if !matches!(kind, alg::RSA | alg::ECC | alg::KEYEDHASH | alg::SYMCIPHER) {
            return Err(at.error(bulla_tpm_types::ErrorKind::Type, "TPMI_ALG_PUBLIC"));
        }
        let auth = AuthValue::new(r.tpm2b(MAX_DIGEST, "TPM2B_AUTH")?);
        let seed = r.tpm2b(MAX_DIGEST, "TPM2B_DIGEST")?;
        let most = if kind == alg::RSA { MAX_PRIME } else { MAX_DATA };
        Ok(Self { kind, auth, seed, value: r.tpm2b(most, "TPMU_SENSITIVE_COMPOSITE")? })
    }

    /// The sensitive area of an object of this kind; TPM_RC_TYPE when it is of another, TPM_RC_KEY_SIZE when it
    /// cannot be one.
    pub(super) fn private(&self, kind: &PublicKind, name_alg: Option<HashAlg>) -> Result<Private, Rc> {
        if self.kind != sensitive_type(kind) {
            return Err(rc::TYPE);
        }
        if name_alg.is_some_and(|alg| self.auth.as_bytes().len() > alg.size()) {
            return Err(rc::SIZE);
        }
        // A symmetric object has an obfuscation value as long as its Name's digest; a key pair at most.
        let pair = matches!(kind, PublicKind::Rsa { .. } | PublicKind::Ecc { .. });
        let seed_fits = |alg: HashAlg| self.seed.len() == alg.size() || (pair && self.seed.len() < alg.size());
        if !name_alg.is_none_or(seed_fits) {
            return Err(rc::KEY_SIZE);
        }
        let material = match kind {
            PublicKind::Rsa { parms, .. }
                if self.value.len() != usize::from(parms.key_bits / 16)
                    || self.value.first().is_none_or(|first| *first < 0x80) =>
            {
                return Err(rc::KEY_SIZE);
            }
            PublicKind::Rsa { parms, unique } => {
                let key = rsa::PrivateKey::from_prime(parms, unique, self.value).ok_or(rc::BINDING)?;
                Material::Rsa(Box::new(key))
            }
            PublicKind::Ecc { parms, .. } => {
                Material::Ecc(PrivateKey::from_bytes(parms.curve, self.value).ok_or(rc::KEY_SIZE)?)
            }
            PublicKind::SymCipher { sym: bulla_tpm_types::Symmetric::Aes { bits, .. }, .. }
                if self.value.len() != usize::from(bits / 8) =>
            {
                return Err(rc::KEY_SIZE);
            }
            PublicKind::KeyedHash { scheme, .. } if self.value.len() > create::most_data(*scheme) => {
                return Err(rc::KEY_SIZE);
            }
            _ => Material::Data(Secret::new(self.value.into())),
        };
        Ok(Private { seed: Secret::new(self.seed.into()), material })
    }
}
