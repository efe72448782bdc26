//! Self tests: known answers of each algorithm, before its first use (Part 1, 12.3).

use core::ops::BitOr;

use bulla_tpm_types::{AlgId, HashAlg, Public, PublicKind, Rc, alg, hash, rc};

use super::Tpm;
use super::crypto::{Direction, aes_cfb};
use super::drbg::Drbg;
use super::ecc;
use super::rsa;

/// A set of tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct TestSet(u16);

impl TestSet {
    const SHA1: Self = Self(1);
    const SHA256: Self = Self(1 << 1);
    const SHA384: Self = Self(1 << 2);
    const SHA512: Self = Self(1 << 3);
    /// The random number generator, and with it HMAC.
    pub(super) const DRBG: Self = Self(1 << 4);
    /// ECDSA and key pairs on every curve.
    pub(super) const ECDSA: Self = Self(1 << 5);
    /// AES in CFB mode.
    pub(super) const AES: Self = Self(1 << 6);
    /// RSA: both operations, and its paddings.
    pub(super) const RSA: Self = Self(1 << 7);
    /// The hash algorithms of the PCR banks.
    pub(super) const BANKS: Self = Self(0b111);
    /// Every test.
    pub(super) const ALL: Self = Self(0b1111_1111);

    /// The test of a hash algorithm.
    pub(super) fn hash(alg: HashAlg) -> Self {
        match alg {
            HashAlg::Sha1 => Self::SHA1,
            HashAlg::Sha256 => Self::SHA256,
            HashAlg::Sha384 => Self::SHA384,
            HashAlg::Sha512 => Self::SHA512,
        }
    }

    /// The test of what makes an object's key.
    pub(super) fn of(public: &Public) -> Self {
        if matches!(public.kind, PublicKind::Rsa { .. }) { Self::RSA } else { Self::default() }
    }

    fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl BitOr for TestSet {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// A known-answer test.
struct Test {
    set: TestSet,
    /// The algorithm that it is reported under.
    alg: AlgId,
    run: fn() -> bool,
}

/// The tests, in ascending order of their algorithms.
const TESTS: [Test; 8] = [
    Test { set: TestSet::RSA, alg: alg::RSA, run: rsa::self_test },
    Test { set: TestSet::SHA1, alg: alg::SHA1, run: || sha(HashAlg::Sha1, &SHA1_ABC) },
    Test { set: TestSet::DRBG, alg: alg::HMAC, run: drbg },
    Test { set: TestSet::AES, alg: alg::AES, run: aes },
    Test { set: TestSet::SHA256, alg: alg::SHA256, run: || sha(HashAlg::Sha256, &SHA256_ABC) },
    Test { set: TestSet::SHA384, alg: alg::SHA384, run: || sha(HashAlg::Sha384, &SHA384_ABC) },
    Test { set: TestSet::SHA512, alg: alg::SHA512, run: || sha(HashAlg::Sha512, &SHA512_ABC) },
    Test { set: TestSet::ECDSA, alg: alg::ECDSA, run: ecc::self_test },
];

/// Which tests have passed since power came on.
#[derive(Debug, Default)]
pub(super) struct SelfTests {
    passed: TestSet,
}

impl SelfTests {
    /// The algorithms still to be tested, in ascending order.
    pub(super) fn untested(&self) -> impl Iterator<Item = AlgId> + '_ {
        TESTS.iter().filter(|t| !self.passed.contains(t.set)).map(|t| t.alg)
    }

    /// Runs these tests; false when one fails.
    pub(super) fn run(&mut self, tests: TestSet) -> bool {
        TESTS.iter().filter(|t| tests.contains(t.set)).all(|t| {
            let ok = (t.run)();
            self.passed = if ok { self.passed | t.set } else { self.passed.without(t.set) };
            ok
        })
    }
}

/// The test that covers an algorithm; none for those without a computation of their own.
pub(super) fn test_of(id: AlgId) -> TestSet {
    let id = if matches!(id, alg::RSASSA | alg::RSAPSS | alg::RSAES | alg::OAEP) { alg::RSA } else { id };
    TESTS.iter().find(|t| t.alg == id).map_or(TestSet::default(), |t| t.set)
}

impl Tpm {
    /// Sees that these tests have passed, running those that have not been run. If one fails, the TPM is in
    /// failure mode.
    pub(super) fn require(&mut self, tests: TestSet) -> Result<(), Rc> {
        let missing = tests.without(self.tests.passed);
        if missing == TestSet::default() || self.tests.run(missing) {
            return Ok(());
        }
        self.fail();
        Err(rc::FAILURE)
    }
}

fn sha(alg: HashAlg, want: &[u8]) -> bool {
    hash::digest(alg, &[b"abc"]).as_bytes() == want
}

/// RFC 6979, A.2.5: the first output for this key and message is the nonce of the signature.
fn drbg() -> bool {
    let mut out = [0; 32];
    Drbg::new(&[&TEST_KEY, hash::digest(HashAlg::Sha256, &[b"sample"]).as_bytes()]).generate(&mut out);
    out == TEST_NONCE
}

/// SP 800-38A, F.3.13: CFB128 with AES-128, one block each way.
fn aes() -> bool {
    let iv = core::array::from_fn(|i| i as u8);
    let mut data = AES_PLAIN;
    let there = aes_cfb(&AES_KEY, &iv, &mut data, Direction::Encrypt).is_some() && data == AES_CIPHER;
    let back = aes_cfb(&AES_KEY, &iv, &mut data, Direction::Decrypt).is_some() && data == AES_PLAIN;
    there && back
}

/// SP 800-38A, F.3.13: the key.
const AES_KEY: [u8; 16] =
    [0x2b, 0x7e, 0x15, 0x16, 0x28, 0xae, 0xd2, 0xa6, 0xab, 0xf7, 0x15, 0x88, 0x09, 0xcf, 0x4f, 0x3c];
/// SP 800-38A, F.3.13: the first block.
const AES_PLAIN: [u8; 16] =
    [0x6b, 0xc1, 0xbe, 0xe2, 0x2e, 0x40, 0x9f, 0x96, 0xe9, 0x3d, 0x7e, 0x11, 0x73, 0x93, 0x17, 0x2a];
/// SP 800-38A, F.3.13: the first block, encrypted.
const AES_CIPHER: [u8; 16] =
    [0x3b, 0x3f, 0xd9, 0x2e, 0xb7, 0x2d, 0xad, 0x20, 0x33, 0x34, 0x49, 0xf8, 0xe8, 0x3c, 0xfb, 0x4a];
/// FIPS 180-4: SHA-1 of "abc".
const SHA1_ABC: [u8; 20] = [
    0xa9, 0x99, 0x3e, 0x36, 0x47, 0x06, 0x81, 0x6a, 0xba, 0x3e, 0x25, 0x71, 0x78, 0x50, 0xc2, 0x6c, 0x9c, 0xd0, 0xd8,
    0x9d,
];
/// FIPS 180-4: SHA-256 of "abc".
const SHA256_ABC: [u8; 32] = [
    0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea, 0x41, 0x41, 0x40, 0xde, 0x5d, 0xae, 0x22, 0x23, 0xb0, 0x03, 0x61,
    0xa3, 0x96, 0x17, 0x7a, 0x9c, 0xb4, 0x10, 0xff, 0x61, 0xf2, 0x00, 0x15, 0xad,
];
/// FIPS 180-4: SHA-384 of "abc".
const SHA384_ABC: [u8; 48] = [
    0xcb, 0x00, 0x75, 0x3f, 0x45, 0xa3, 0x5e, 0x8b, 0xb5, 0xa0, 0x3d, 0x69, 0x9a, 0xc6, 0x50, 0x07, 0x27, 0x2c, 0x32,
    0xab, 0x0e, 0xde, 0xd1, 0x63, 0x1a, 0x8b, 0x60, 0x5a, 0x43, 0xff, 0x5b, 0xed, 0x80, 0x86, 0x07, 0x2b, 0xa1, 0xe7,
    0xcc, 0x23, 0x58, 0xba, 0xec, 0xa1, 0x34, 0xc8, 0x25, 0xa7,
];
/// FIPS 180-4: SHA-512 of "abc".
const SHA512_ABC: [u8; 64] = [
    0xdd, 0xaf, 0x35, 0xa1, 0x93, 0x61, 0x7a, 0xba, 0xcc, 0x41, 0x73, 0x49, 0xae, 0x20, 0x41, 0x31, 0x12, 0xe6, 0xfa,
    0x4e, 0x89, 0xa9, 0x7e, 0xa2, 0x0a, 0x9e, 0xee, 0xe6, 0x4b, 0x55, 0xd3, 0x9a, 0x21, 0x92, 0x99, 0x2a, 0x27, 0x4f,
    0xc1, 0xa8, 0x36, 0xba, 0x3c, 0x23, 0xa3, 0xfe, 0xeb, 0xbd, 0x45, 0x4d, 0x44, 0x23, 0x64, 0x3c, 0xe8, 0x0e, 0x2a,
    0x9a, 0xc9, 0x4f, 0xa5, 0x4c, 0xa4, 0x9f,
];
/// RFC 6979, A.2.5: the private key.
const TEST_KEY: [u8; 32] = [
    0xc9, 0xaf, 0xa9, 0xd8, 0x45, 0xba, 0x75, 0x16, 0x6b, 0x5c, 0x21, 0x57, 0x67, 0xb1, 0xd6, 0x93, 0x4e, 0x50, 0xc3,
    0xdb, 0x36, 0xe8, 0x9b, 0x12, 0x7b, 0x8a, 0x62, 0x2b, 0x12, 0x0f, 0x67, 0x21,
];
/// RFC 6979, A.2.5: k for SHA-256 and "sample".
const TEST_NONCE: [u8; 32] = [
    0xa6, 0xe3, 0xc5, 0x7d, 0xd0, 0x1a, 0xbe, 0x90, 0x08, 0x65, 0x38, 0x39, 0x83, 0x55, 0xdd, 0x4c, 0x3b, 0x17, 0xaa,
    0x87, 0x33, 0x82, 0xb0, 0xf2, 0x4d, 0x61, 0x29, 0x49, 0x3d, 0x8a, 0xad, 0x60,
];
