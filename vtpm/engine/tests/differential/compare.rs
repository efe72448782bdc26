//! What two responses have to have in common.

use super::command::Cmd;
use super::model::Model;

/// How much of a successful response is the same in both TPMs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Same {
    /// All parameters.
    All,
    /// The first TPM2B.
    First,
    /// So many octets.
    Octets(usize),
    /// The length.
    Length,
    /// Nothing: properties, algorithms and blobs are each TPM's own.
    Nothing,
}

/// What of a command's parameters has to be the same.
fn same(cmd: &Cmd, model: &Model) -> Same {
    // Keys of its own are in each TPM's answers.
    let own = cmd.handles.iter().any(|h| matches!(h >> 24, 0x80 | 0x81) && !model.object(*h).is_some_and(|o| o.same));
    let params = &cmd.params[1];
    let word = |at: usize| params.get(at..at + 4).map(|b| u32::from_be_bytes(b.try_into().unwrap()));
    match cmd.code {
        // TPM_CAP_ALGS, COMMANDS, PP_COMMANDS, TPM_PROPERTIES, ECC_CURVES, and vendor properties.
        0x17a if matches!(word(0), Some(0 | 2 | 3 | 8 | 0x100)) => Same::Nothing,
        // Of the properties, those that are about what has happened, not about what there is room for.
        0x17a if word(0) == Some(6) && !(word(8) == Some(1) && matches!(word(4), Some(0x200 | 0x201 | 0x20f))) => {
            Same::Nothing
        }
        // The digest that audits commands is SHA-256 here and SHA-512 there until it is chosen.
        0x133 => Same::Nothing,
        // Contexts and private areas are sealed as each TPM likes.
        0x162 | 0x14b | 0x152 | 0x153 | 0x156 | 0x131 | 0x191 | 0x150 | 0x142 => Same::Nothing,
        // Signed by keys, or with random numbers, or about time.
        0x148 | 0x14a | 0x14c | 0x14d | 0x158 | 0x184 | 0x15d | 0x181 | 0x17b | 0x163 | 0x168 | 0x18b | 0x18d
        | 0x18e => Same::Length,
        0x174 | 0x176 => Same::Length,
        // Allocations that are made one after the other add up here; swtpm begins with those in force each time.
        0x12b => Same::Length,
        // Tickets: each has a proof of its own, and swtpm's are longer.
        0x151 | 0x160 => Same::Nothing,
        0x17d | 0x13e if !own => Same::First,
        // libtpms 0.9 answers an IV that was used up (CVE-2026-21444).
        0x164 | 0x193 if !own => Same::First,
        0x177 => Same::Octets(6),
        // Names of keys of its own are in the policy.
        0x189 if model.own_policies.contains(&cmd.handles[0]) => Same::Length,
        _ if own && !matches!(cmd.code, 0x185 | 0x13c | 0x182 | 0x134..=0x137) => Same::Length,
        _ => Same::All,
    }
}

/// Where two responses differ that should not; `None` when they agree.
pub(crate) fn difference(cmd: &Cmd, model: &Model, theirs: &[u8], ours: &[u8]) -> Option<&'static str> {
    if theirs[6..10] != ours[6..10] {
        return Some("codes");
    }
    if ours[6..10] != [0; 4] {
        // libtpms gives a command with the tag TPM_ST_RSP_COMMAND another answer than Part 3, 5.2 does.
        return (cmd.tag.is_none() && theirs != ours).then_some("errors");
    }
    let creates = matches!(cmd.code, 0x131 | 0x157 | 0x15b | 0x161 | 0x167 | 0x176 | 0x186 | 0x191);
    if creates && theirs[10..14] != ours[10..14] {
        return Some("handles");
    }
    let same = same(cmd, model);
    if same == Same::Nothing {
        return None;
    }
    if matches!(same, Same::All | Same::Length) && theirs.len() != ours.len() {
        return Some("lengths");
    }
    let with_sessions = ours[1] == 2;
    let start = 10 + if creates { 4 } else { 0 } + if with_sessions { 4 } else { 0 };
    let params = |r: &[u8]| -> Vec<u8> {
        let end = if with_sessions {
            start + u32::from_be_bytes(r[start - 4..start].try_into().unwrap()) as usize
        } else {
            r.len()
        };
        r[start..end].to_vec()
    };
    let (mut theirs, mut ours) = (params(theirs), params(ours));
    if cmd.code == 0x14e {
        // What the first write of an index has left out is zero here, and ones there.
        [&mut theirs, &mut ours].into_iter().flatten().filter(|octet| **octet == 0xff).for_each(|octet| *octet = 0);
    }
    // Sessions that encrypt do it with nonces of each TPM's own.
    let hidden = cmd.sessions.iter().any(|s| s.attributes & 0x60 != 0);
    let until = match same {
        _ if hidden => 0,
        Same::All => ours.len(),
        Same::First => 2 + usize::from(u16::from_be_bytes([ours[0], ours[1]])),
        Same::Octets(n) => n,
        Same::Length | Same::Nothing => 0,
    };
    let until = until.min(ours.len());
    (theirs[..until] != ours[..until]).then_some("parameters")
}
