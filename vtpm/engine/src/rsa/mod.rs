//! RSA (Part 1, Annex B; RFC 8017): keys, their operations, and the paddings of the TPM's schemes.
//!
//! Who can time this process learns of a private operation the size of the key and, when it unpads, whether the
//! padding was right and how long the message is: the response code and the response's size say as much. The
//! padding oracle that TPM_ALG_RSAES is stays one (Part 1, B.4): Bleichenbacher's attack asks for nothing but yes
//! and no. Keys for new uses decrypt by OAEP.
//!
//! Key generation is not in constant time: it shows how many candidates there were before each prime.

mod generate;
mod key;
mod montgomery;
mod padding;
mod prime;
mod scheme;
mod selftest;
#[cfg(test)]
mod tests;

#[cfg(test)]
pub(super) use generate::generate;
pub(super) use generate::generate_while;
pub(super) use key::{PrivateKey, PublicKey, exponent};
pub(super) use padding::salt_size;
pub(super) use scheme::{decrypt, encrypt, sign, verify};
pub(super) use selftest::self_test;
