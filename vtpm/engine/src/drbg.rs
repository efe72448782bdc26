//! HMAC_DRBG with SHA-256 (NIST SP 800-90A Rev. 1, 10.1.2).
//!
//! It is the TPM's random number generator, and, instantiated from a primary seed, the deterministic source
//! of primary keys.

use alloc::boxed::Box;

use bulla_tpm_types::HashAlg;
use zeroize::{Zeroize, Zeroizing};

use super::crypto::hmac;
use super::platform::{Entropy, EntropyError};

const SIZE: usize = 32;
/// Octets of entropy for an instantiation: 256 bits of strength, and a nonce of half that.
const ENTROPY: usize = 48;
/// Requests between reseedings; SP 800-90A allows 2^48.
const RESEED_INTERVAL: u32 = 1 << 16;

/// The working state: K and V.
pub(super) struct Drbg {
    state: Box<Zeroizing<[[u8; SIZE]; 2]>>,
    requests: u32,
}

impl Drbg {
    /// Instantiates from seed material: entropy input ‖ nonce ‖ personalization string.
    pub(super) fn new(seed_material: &[&[u8]]) -> Self {
        let mut drbg = Self { state: Box::new(Zeroizing::new([[0; SIZE], [1; SIZE]])), requests: 0 };
        drbg.update(seed_material);
        drbg
    }

    /// Instantiates from the platform's entropy.
    pub(super) fn from_entropy(entropy: &mut dyn Entropy) -> Result<Self, EntropyError> {
        let mut seed = Zeroizing::new([0; ENTROPY]);
        entropy.fill(&mut *seed)?;
        Ok(Self::new(&[&*seed]))
    }

    /// Mixes fresh entropy into the state.
    pub(super) fn reseed(&mut self, entropy: &mut dyn Entropy) -> Result<(), EntropyError> {
        let mut seed = Zeroizing::new([0; ENTROPY]);
        entropy.fill(&mut *seed)?;
        self.update(&[&*seed]);
        self.requests = 0;
        Ok(())
    }

    /// Mixes data of any quality into the state (TPM2_StirRandom).
    pub(super) fn stir(&mut self, data: &[u8]) {
        self.update(&[data]);
    }

    /// Whether enough requests were served for a reseeding.
    pub(super) fn wants_reseed(&self) -> bool {
        self.requests >= RESEED_INTERVAL
    }

    /// Fills `out` with random bytes: one request.
    pub(super) fn generate(&mut self, out: &mut [u8]) {
        for block in out.chunks_mut(SIZE) {
            let v = self.mac(&[]);
            self.state[1] = v;
            block.copy_from_slice(&v[..block.len()]);
        }
        self.update(&[]);
        self.requests = self.requests.saturating_add(1);
    }

    /// HMAC_DRBG_Update.
    fn update(&mut self, data: &[&[u8]]) {
        let empty = data.iter().all(|d| d.is_empty());
        for round in [0u8, 1] {
            let mut parts: [&[u8]; 6] = [&[]; 6];
            let tag = [round];
            parts[0] = &tag;
            for (part, d) in parts[1..].iter_mut().zip(data) {
                *part = d;
            }
            self.state[0] = self.mac(&parts);
            self.state[1] = self.mac(&[]);
            if empty {
                break;
            }
        }
    }

    /// HMAC(K, V ‖ parts).
    fn mac(&self, parts: &[&[u8]]) -> [u8; SIZE] {
        let [key, v] = &**self.state;
        let mut all: [&[u8]; 7] = [&[]; 7];
        all[0] = v;
        for (a, p) in all[1..].iter_mut().zip(parts) {
            *a = p;
        }
        let mut mac = hmac(HashAlg::Sha256, key, &all);
        let mut out = [0; SIZE];
        out.copy_from_slice(mac.as_bytes());
        mac.as_bytes_mut().zeroize();
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unhex(s: &str) -> Vec<u8> {
        crate::tests::unhex(s)
    }

    /// RFC 6979, A.2.5: the nonce of ECDSA P-256 with SHA-256 over "sample" is the first output of this
    /// generator seeded with the private key and the message's digest.
    #[test]
    fn known_answer_of_rfc_6979() {
        let x = unhex("C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721");
        let h = bulla_tpm_types::hash::digest(HashAlg::Sha256, &[b"sample"]);
        let mut k = [0; 32];
        Drbg::new(&[&x, h.as_bytes()]).generate(&mut k);
        assert_eq!(k.to_vec(), unhex("A6E3C57DD01ABE90086538398355DD4C3B17AA873382B0F24D6129493D8AAD60"));
    }

    #[test]
    fn stirring_and_serving_change_what_comes_next() {
        let mut a = Drbg::new(&[b"seed"]);
        let mut b = Drbg::new(&[b"seed"]);
        let (mut x, mut y) = ([0; 40], [0; 40]);
        a.generate(&mut x);
        b.generate(&mut y);
        assert_eq!(x, y);
        b.stir(b"more");
        a.generate(&mut x);
        b.generate(&mut y);
        assert_ne!(x, y);
    }
}
