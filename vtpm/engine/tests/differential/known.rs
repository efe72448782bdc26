//! Where bulla-vtpm and swtpm (libtpms 0.9) differ on purpose.

use super::command::Cmd;

/// An intended difference.
struct Known {
    /// The command, or [`ANY`].
    code: u32,
    /// swtpm's response code, or [`ANY`].
    theirs: u32,
    /// Ours, or [`ANY`].
    ours: u32,
    /// What else has to be so.
    when: fn(&Cmd) -> bool,
    why: &'static str,
}

const ANY: u32 = 0xffff_ffff;
/// TPM_RC_FAILURE.
pub(crate) const FAILURE: u32 = 0x101;

const fn known_for(code: u32, theirs: u32, ours: u32, why: &'static str) -> Known {
    Known { code, theirs, ours, when: |_| true, why }
}

const NO_SESSION: &str =
    "a session that is not there is TPM_RC_REFERENCE_H0 (Part 3, 5.4); for libtpms only if it is saved";
const CONTEXT: &str = "contexts look different inside, so spoiling them at the same place breaks different things";
const AUTH_SIZE: &str = "a bad authorizationSize is TPM_RC_AUTHSIZE (Part 3, 5.5); libtpms takes it for a parameter";
const BINDING: &str = "TPM_RC_BINDING says of which parameter, and an RSA key that cannot be one is wrong by itself";
const CURVES: &str = "neither P-192 nor P-224, nor BN and SM2 curves";
const SEQUENCE: &str = "a sequence has no Name that could be certified or part of a policy";
const ORDER: &str = "of a template with wrong attributes and a policy of the wrong size, the attributes come first";
const TRIES: &str = "TPM2_Clear brings back the limits of the dictionary attack logic: three tries there, 32 here";
const NO_SECRET: &str = "for a key that has only its public area it is the key that is wrong, not the signature";
const LARGEST: &str = "what is larger than the largest key of the TPM: the largest keys are not the same";
const POLICY_NV: &str = "libtpms compares negative numbers wrongly (its issue 367), and what was never written is ones";
const TICKET: &str =
    "the tag of another structure than a ticket is TPM_RC_TAG, as in Part 2, 10.7; libtpms says TPM_RC_VALUE";

/// The intended differences, with a reason each.
const KNOWN: &[Known] = &[
    known_for(
        ANY,
        0x902,
        ANY,
        "swtpm has room for three transient objects; a persistent one takes it while it is used",
    ),
    known_for(ANY, 0x903, 0, "swtpm has room for three loaded sessions"),
    Known {
        when: |cmd| cmd.tag.is_some(),
        ..known_for(ANY, 0x84, 0x1e, "a bad tag is TPM_RC_BAD_TAG (Part 3, 5.2); libtpms says TPM_RC_VALUE")
    },
    known_for(ANY, 0x95, 0x144, AUTH_SIZE),
    known_for(ANY, 0x9a, 0x144, AUTH_SIZE),
    Known { when: |cmd| is_session(cmd, 0), ..known_for(ANY, 0x18b, 0x910, NO_SESSION) },
    Known { when: |cmd| is_session(cmd, 1), ..known_for(ANY, 0x28b, 0x911, NO_SESSION) },
    Known { when: |cmd| is_session(cmd, 2), ..known_for(ANY, 0x38b, 0x912, NO_SESSION) },
    Known {
        when: |cmd| cmd.sessions.iter().any(|s| s.attributes & 0x80 == 0 && s.attributes & 0x06 != 0),
        ..known_for(ANY, ANY, ANY, "auditExclusive and auditReset take audit (Part 2, 8.4); libtpms does not look")
    },
    Known {
        when: |cmd| matches!(cmd.code, 0x199 | 0x19a),
        ..known_for(ANY, 0x143, ANY, "libtpms 0.9 has no ECC_Encrypt and ECC_Decrypt")
    },
    known_for(ANY, 0x3c4, 0x3d7, TICKET),
    known_for(ANY, 0x4c4, 0x4d7, TICKET),
    known_for(ANY, 0x5c4, 0x5d7, TICKET),
    known_for(0x131, 0x2d5, 0x2c2, ORDER),
    known_for(0x153, 0x2d5, 0x2c2, ORDER),
    known_for(0x191, 0x2d5, 0x2c2, ORDER),
    known_for(
        0x129,
        0,
        0x1d5,
        "an authValue of a hierarchy is no longer than the digest that protects contexts: SHA-256 here, SHA-512 there",
    ),
    known_for(0x142, 0, 0x1c4, "of the algorithms that libtpms has, some are not here"),
    known_for(0x145, 0x1ca, 0, "an allocation of PCR that changes nothing does not keep their values from being saved"),
    known_for(0x148, ANY, 0x19c, SEQUENCE),
    known_for(0x14a, ANY, 0x29c, SEQUENCE),
    known_for(0x160, 0, 0x5d2, SEQUENCE),
    known_for(0x159, FAILURE, 0x1c4, "libtpms enters failure mode when what OAEP has decrypted is no plaintext"),
    known_for(0x174, FAILURE, 0x1c4, "libtpms enters failure mode when OAEP has no room for the message"),
    known_for(0x128, 0, 0x1c4, "the two clocks do not advance in step, and Clock is not set back"),
    known_for(0x165, 0, 0x1cb, "a session is not flushed by the handle of the other type"),
    known_for(0x18a, 0, 0x1d6, "AES is the only block cipher"),
    known_for(0x15c, 0x1c9, 0x189, "it is the handle that is of the wrong mode, not the parameter"),
    Known {
        when: |cmd| cmd.params[1].starts_with(&[0x80]),
        ..known_for(0x165, 0x1c4, 0x1cb, "we have eight slots for transient objects, so there are more handles")
    },
    known_for(0x167, 0xa5, ANY, BINDING),
    known_for(0x167, 0, 0x2e7, "a public point is on its curve even if it has no nameAlg"),
    known_for(0x167, 0, 0x2e5, "the halves of a key pair fit together even if it has no nameAlg"),
    known_for(0x167, 0x1d5, 0x1da, "a key that is both too large and cut short is cut short"),
    known_for(0x178, 0, 0x1e6, CURVES),
    known_for(0x18e, 0, 0x1e6, CURVES),
    known_for(0x128, 0x1c4, 0, "the two clocks do not advance in step, and Clock is not set back"),
    known_for(ANY, 0x921, ANY, TRIES),
    known_for(ANY, ANY, 0x921, TRIES),
    known_for(ANY, FAILURE, ANY, "no command makes our TPM fail; some make libtpms"),
    known_for(0x131, ANY, 0x2e6, CURVES),
    known_for(0x153, ANY, 0x2e6, CURVES),
    known_for(0x191, ANY, 0x2e6, CURVES),
    known_for(0x160, 0x5cb, 0x5d2, SEQUENCE),
    known_for(0x167, 0, 0x2cd, "the exponent of an RSA key is an odd prime even if nobody uses it"),
    known_for(0x174, 0x19c, 0x3c4, "a label that does not end is wrong for any key"),
    known_for(0x159, 0x19c, 0x3c4, "a label that does not end is wrong for any key"),
    known_for(0x12a, 0x2d5, 0x1d5, "of an authValue and a policy that are both too long the authValue comes first"),
    known_for(0x149, 0, 0x126, POLICY_NV),
    known_for(0x149, 0x126, 0, POLICY_NV),
    known_for(0x160, 0x5da, 0x5d5, LARGEST),
    known_for(0x176, 0x2d5, 0x2da, LARGEST),
    known_for(0x167, ANY, 0x2d6, "AES is the only block cipher"),
    known_for(
        0x167,
        0x1d5,
        0x2cd,
        "of an authValue that is too long and an exponent that is none the exponent comes first",
    ),
    known_for(0x17a, 0x2c4, 0x1c4, "there are no authenticated countdown timers to be asked for"),
    known_for(0x177, 0x2cb, 0x18b, NO_SECRET),
    known_for(0x177, 0x2cb, 0x2d2, NO_SECRET),
    known_for(0x12a, 0x2d5, 0x95, "the octets after a public area of no size are too many, whatever they are"),
];

fn is_session(cmd: &Cmd, handle: usize) -> bool {
    cmd.handles.get(handle).is_some_and(|h| matches!(h >> 24, 2 | 3))
}

/// The reason for a difference between two response codes, if it is intended.
pub(crate) fn known(cmd: &Cmd, theirs: u32, ours: u32) -> Option<&'static str> {
    let is = |wanted: u32, is: u32| wanted == ANY || wanted == is;
    let fits = |k: &&Known| is(k.code, cmd.code) && is(k.theirs, theirs) && is(k.ours, ours) && (k.when)(cmd);
    if cmd.code == 0x161 && theirs != 0 && ours != 0 {
        return Some(CONTEXT);
    }
    KNOWN.iter().find(fits).map(|k| k.why)
}
