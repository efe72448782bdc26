//! A valid command for each code, as far as the model's state allows. Parameters as in Part 3.

use super::command::{Cmd, Note};
use super::generate::Generator;
use super::keys;
use super::model::Kind;

pub(crate) const OWNER: u32 = 0x4000_0001;
pub(crate) const NULL: u32 = 0x4000_0007;
const LOCKOUT: u32 = 0x4000_000a;
const ENDORSEMENT: u32 = 0x4000_000b;
pub(crate) const PLATFORM: u32 = 0x4000_000c;
const ANY_HIERARCHY: &[u32] = &[OWNER, OWNER, ENDORSEMENT, PLATFORM, NULL];

/// Every command that both TPMs have, and some that one of them has not.
///
/// Startup and Shutdown are there, too; what starts a new life (Clear, ChangePPS, ChangeEPS) is rare in [`OFTEN`].
pub(crate) const ALL: &[u32] = &[
    0x11f, 0x120, 0x121, 0x122, 0x124, 0x125, 0x126, 0x127, 0x128, 0x129, 0x12a, 0x12b, 0x12c, 0x12d, 0x12e, 0x130,
    0x131, 0x132, 0x133, 0x134, 0x135, 0x136, 0x137, 0x138, 0x139, 0x13a, 0x13b, 0x13c, 0x13d, 0x13e, 0x13f, 0x140,
    0x142, 0x143, 0x144, 0x145, 0x146, 0x147, 0x148, 0x149, 0x14a, 0x14b, 0x14c, 0x14d, 0x14e, 0x14f, 0x150, 0x151,
    0x152, 0x153, 0x154, 0x155, 0x156, 0x157, 0x158, 0x159, 0x15b, 0x15c, 0x15d, 0x15e, 0x160, 0x161, 0x162, 0x163,
    0x164, 0x165, 0x167, 0x168, 0x169, 0x16a, 0x16b, 0x16c, 0x16d, 0x16e, 0x16f, 0x170, 0x171, 0x172, 0x173, 0x174,
    0x176, 0x177, 0x178, 0x17a, 0x17b, 0x17c, 0x17d, 0x17e, 0x17f, 0x180, 0x181, 0x182, 0x183, 0x184, 0x185, 0x186,
    0x187, 0x188, 0x189, 0x18a, 0x18b, 0x18c, 0x18d, 0x18e, 0x18f, 0x190, 0x191, 0x192, 0x193,
];

/// What builds up state, and what uses it.
pub(crate) const OFTEN: &[u32] = &[
    0x12a, 0x12a, 0x131, 0x131, 0x137, 0x137, 0x14e, 0x134, 0x135, 0x136, 0x153, 0x153, 0x157, 0x157, 0x167, 0x167,
    0x167, 0x176, 0x176, 0x176, 0x186, 0x15b, 0x15c, 0x13e, 0x15d, 0x155, 0x164, 0x193, 0x173, 0x15e, 0x16c, 0x189,
    0x189, 0x180, 0x17f, 0x182, 0x17e, 0x162, 0x161, 0x165, 0x17a, 0x169, 0x149, 0x177, 0x191, 0x120, 0x151,
];

pub(crate) fn command(g: &mut Generator, code: u32) -> Cmd {
    let cmd = Cmd::new(code);
    match code {
        0x11f..=0x140 => administrative(g, cmd),
        0x16a..=0x172 | 0x17f | 0x180 | 0x187..=0x189 | 0x18c | 0x18f | 0x190 | 0x149 | 0x192 | 0x151 | 0x160 => {
            policy(g, cmd)
        }
        _ => usual(g, cmd),
    }
}

fn administrative(g: &mut Generator, cmd: Cmd) -> Cmd {
    let provision = g.rng.pick(&[OWNER, OWNER, OWNER, PLATFORM]);
    let index = g.nv();
    let by = g.nv_auth(index);
    match cmd.code {
        0x11f => cmd.auth(index).auth(PLATFORM),
        0x120 => {
            let persistent: Vec<_> = g.model.objects.iter().map(|o| o.handle).filter(|h| h >> 24 == 0x81).collect();
            let object = if !persistent.is_empty() && g.rng.chance(40) {
                g.rng.pick(&persistent)
            } else {
                g.object(&[Kind::Storage, Kind::Sign])
            };
            let platform = if provision == PLATFORM { 0x80_0000 } else { 0 };
            let to = if object >> 24 == 0x81 { object } else { 0x8100_0000 + platform + g.rng.below(3) as u32 };
            cmd.auth(provision).handle(object).u32(to).note(Note::Persistent(object, to))
        }
        0x121 => {
            let which = g.rng.pick(&[OWNER, ENDORSEMENT, NULL, 0x4000_000d]);
            let state = if g.rng.chance(75) { "01" } else { "00" };
            cmd.auth(g.rng.pick(&[OWNER, ENDORSEMENT, PLATFORM, PLATFORM])).u32(which).hex(state)
        }
        0x122 => cmd.auth(provision).handle(index),
        0x124 | 0x125 => cmd.auth(PLATFORM),
        0x126 => cmd.auth(g.rng.pick(&[LOCKOUT, PLATFORM])),
        0x127 => cmd.auth(g.rng.pick(&[LOCKOUT, PLATFORM, PLATFORM])).hex(g.rng.pick(&["00", "00", "01"])),
        0x128 => cmd.auth(provision).hex(g.rng.pick(&[
            "0000000000000001",
            "0000000010000000",
            "0000000020000000",
            "ffff000000000001",
        ])),
        0x129 => {
            let of = g.rng.pick(&[OWNER, ENDORSEMENT, PLATFORM]);
            let mut auth = g.password();
            auth.truncate(8);
            cmd.auth(of).sized(&auth).note(Note::Auth(of, trimmed(&auth)))
        }
        0x12a => define(g, cmd, provision),
        0x12b => cmd.auth(PLATFORM).hex(g.rng.pick(&[
            "00000001 000b 03 ffffff",
            "00000002 0004 03 000000 000b 03 ffffff",
            "00000001 000d 03 ff0000",
            "00000000",
        ])),
        0x12c => {
            let digest = g.digest();
            cmd.auth(PLATFORM).sized(&digest).u16(0x0b).u32(16 + g.rng.below(8) as u32)
        }
        0x12d => cmd.auth(PLATFORM).hex(g.rng.pick(&[
            "00000001 00000120 00000000",
            "00000000 00000001 00000120",
            "00000000 00000000",
        ])),
        0x12e => {
            let (of, digest) = (g.rng.pick(&[OWNER, ENDORSEMENT, PLATFORM, LOCKOUT]), g.policy_digest());
            let alg = if digest.is_empty() { 0x10 } else { 0x0b };
            cmd.auth(of).sized(&digest).u16(alg)
        }
        0x130 => cmd.auth(provision).hex(g.rng.pick(&["00", "01", "ff", "03", "fd"])),
        0x131 => {
            let auth = g.password();
            let (kind, sensitive, template) = keys::template(g, true, &auth);
            let hierarchy = g.rng.pick(ANY_HIERARCHY);
            let same = false;
            cmd.auth(hierarchy)
                .sized(&sensitive)
                .sized(&template)
                .sized(b"")
                .hex(g.rng.pick(&["00000000", "00000001 000b 03 010001"]))
                .note(Note::Object(kind, trimmed(&auth), same))
        }
        0x132 => cmd.auth(provision),
        0x133 => cmd.auth(ENDORSEMENT).auth(g.object_or_null(&[Kind::Sign, Kind::Restricted])).hex("0001 61 0010"),
        0x134 => cmd.auth(by).handle(index),
        0x135 => {
            let bits = g.rng.bytes(8);
            cmd.auth(by).handle(index).raw(&bits)
        }
        0x136 => {
            let data = g.data();
            cmd.auth(by).handle(index).sized(&data)
        }
        0x137 => {
            let n = g.rng.pick(&[0, 1, 8, 8, 8, 16, 32, 40]);
            let data = if n == 8 && g.rng.chance(30) { vec![0, 0, 0, 1, 0, 0, 0, 5] } else { g.rng.bytes(n) };
            cmd.auth(by).handle(index).sized(&data).u16(g.rng.pick(&[0, 0, 0, 1, 8, 32]))
        }
        0x138 => cmd.auth(by).handle(index),
        0x139 => cmd.auth(LOCKOUT),
        0x13a => cmd.auth(LOCKOUT).hex("00ffffff 00ffffff 00ffffff"),
        0x13b => {
            let auth = g.password();
            cmd.auth(index).sized(&auth).note(Note::Auth(index, trimmed(&auth)))
        }
        0x13c => {
            let (pcr, data) = (pcr(g), g.data());
            cmd.auth(pcr).sized(&data)
        }
        0x13d => cmd.auth(pcr(g)),
        0x13e => {
            let (sequence, data) = (g.object(&[Kind::HashSequence, Kind::EventSequence]), g.data());
            cmd.auth(sequence).sized(&data).u32(g.rng.pick(ANY_HIERARCHY))
        }
        0x13f => cmd.auth(PLATFORM).u32(g.rng.below(9) as u32),
        _ => cmd.auth(provision).hex(g.rng.pick(&[
            "000b 00000000 00000000",
            "0010 00000001 0000017b 00000000",
            "0010 00000000 00000001 0000017b",
            "000c 00000000 00000000",
            "0010 00000002 00000144 00000182 00000001 00000182",
        ])),
    }
}

/// NV_DefineSpace.
fn define(g: &mut Generator, cmd: Cmd, by: u32) -> Cmd {
    let index = 0x0100_0000 + g.rng.below(6) as u32;
    let kind = g.rng.pick(&[0, 0, 0x10, 0x20, 0x40, 0x80, 0x90]);
    let mut attributes =
        kind | g.rng.pick(&[0x0006_0006, 0x0006_0006, 0x000f_000f, 0x0004_0004, 0x0002_0002, 0x0008_0008]);
    if matches!(kind, 0x80 | 0x90) {
        attributes = attributes & !4 | 0x0200_0000;
    }
    for bit in [0x0200_0000, 0x1000, 0x2000, 0x4000, 0x8000, 0x0400_0000, 0x0800_0000, 0x8000_0000, 0x0400, 0x0001_0000]
    {
        if g.rng.chance(4) {
            attributes |= bit;
        }
    }
    if by == PLATFORM {
        attributes |= 0x4000_0000;
    }
    let size = match kind {
        0 => g.rng.pick(&[0, 1, 8, 16, 32, 40, 100]),
        0x40 => 32,
        _ => 8,
    };
    let (auth, policy) = (g.password(), g.policy_digest());
    let mut public = Cmd::new(0).u32(index).u16(0x0b).u32(attributes).sized(&policy).u16(size);
    cmd.auth(by).sized(&auth).sized(&std::mem::take(&mut public.params[0])).note(Note::Auth(index, trimmed(&auth)))
}

fn pcr(g: &mut Generator) -> u32 {
    g.rng.pick(&[0, 1, 7, 10, 16, 16, 16, 17, 20, 21, 22, 23, 23, 23, NULL])
}

/// An authValue without its trailing zeros.
pub(crate) fn trimmed(auth: &[u8]) -> Vec<u8> {
    let n = auth.iter().rposition(|b| *b != 0).map_or(0, |n| n + 1);
    auth[..n].to_vec()
}

fn policy(g: &mut Generator, cmd: Cmd) -> Cmd {
    let session = g.policy();
    let index = g.nv();
    let by = g.nv_auth(index);
    let digest = g.digest();
    match cmd.code {
        0x149 => {
            let data = g.rng.bytes(2);
            cmd.auth(by).handle(index).handle(session).sized(&data).u16(g.rng.pick(&[0, 0, 4])).u16(g.rng.below(13))
        }
        0x151 => {
            let of = match g.rng.below(6) {
                0 => g.object(&[Kind::Storage, Kind::Sign, Kind::Hmac]),
                1 => index,
                2 => pcr(g),
                _ => g.rng.pick(&[OWNER, ENDORSEMENT, PLATFORM]),
            };
            let reference = g.data();
            cmd.auth(of)
                .handle(session)
                .hex("0000 0000")
                .sized(&reference)
                .hex(g.rng.pick(&["00000000", "00000000", "fff00000", "00100000"]))
        }
        0x160 => cmd
            .handle(g.object(&[Kind::Sign]))
            .handle(session)
            .hex("0000 0000 0000 00000000 0018 000b")
            .sized(&digest)
            .sized(&digest),
        0x16a => cmd.handle(session).sized(b"").sized(b"ref").hex("0022 000b").raw(&digest).hex("8022 40000007 0000"),
        0x16b | 0x180 | 0x187 | 0x18c => cmd.handle(session),
        0x16c => {
            cmd.handle(session).u32(g.rng.pick(&[0x15e, 0x15d, 0x14e, 0x137, 0x13b, 0x14b, 0x11f, 0x150, 0x148, 0x999]))
        }
        0x16d => cmd.handle(session).hex(g.rng.pick(&[
            "0004 00000001 0010 0000",
            "0001 00 0000 0001",
            "0002 0000 0004 0007",
            "0008 0000000000000000 0008 0004",
        ])),
        0x16e | 0x170 | 0x190 => cmd.handle(session).sized(&digest),
        0x16f => cmd.handle(session).hex(g.rng.pick(&["01", "1f", "03", "08", "40"])),
        0x171 => {
            let mut digests = vec![digest, vec![0; 32]];
            digests.extend(g.model.policies.last().cloned());
            let head = cmd.handle(session).u32(digests.len() as u32);
            digests.iter().fold(head, |cmd, d| cmd.sized(d))
        }
        0x172 => {
            cmd.handle(session).hex("0008 00000000ffffffff 0000 0000 0004").hex("40000001 8023 40000001").sized(&digest)
        }
        0x17f => cmd.handle(session).sized(b"").hex(g.rng.pick(&[
            "00000001 000b 03 010001",
            "00000000",
            "00000002 0004 03 0f0000 000b 03 800000",
            "00000001 000b 03 000001",
        ])),
        0x188 => cmd
            .handle(session)
            .hex("0022 000b")
            .raw(&digest)
            .hex("0022 000b")
            .raw(&digest)
            .hex(g.rng.pick(&["00", "01"])),
        0x189 => cmd.handle(session).note(Note::PolicyDigest),
        0x18f => cmd.handle(session).hex(g.rng.pick(&["00", "01"])),
        _ => cmd.auth(by).handle(index).handle(session),
    }
}

#[expect(clippy::too_many_lines, reason = "one arm for each command")]
fn usual(g: &mut Generator, cmd: Cmd) -> Cmd {
    let signer = [Kind::Sign, Kind::RsaSign, Kind::Restricted];
    match cmd.code {
        0x142 => cmd.hex(g.rng.pick(&["00000000", "00000001 000b", "00000002 0001 0023", "00000001 0099"])),
        0x143 => cmd.hex(g.rng.pick(&["00", "00", "00", "01"])),
        0x144 | 0x145 => cmd.hex(g.rng.pick(&["0000", "0001"])),
        0x146 => {
            let data = g.data();
            cmd.sized(&data)
        }
        0x147 => cmd.auth(g.object(&[Kind::Sign])).auth(g.object(&[Kind::Storage])).hex("0004 0002 aabb 0004 0000 0000"),
        0x148 => {
            let signing = g.object_or_null(&signer);
            cmd.auth(g.object(&[Kind::Sign])).auth(signing).hex("0002 6162").hex(keys::signing_scheme(g, signing))
        }
        0x14a => {
            let signing = g.object_or_null(&signer);
            let digest = g.digest();
            cmd.auth(signing).handle(g.object(&[Kind::Sign])).hex("0000").sized(&digest).hex(keys::signing_scheme(g, signing)).hex("8021 40000001").sized(&digest)
        }
        0x14b => cmd.auth(g.object(&[Kind::Sign, Kind::Sealed])).handle(g.object_or_null(&[Kind::Storage])).hex(g.rng.pick(&["0000 0010", "0000 0006 0080 0043"])),
        0x14c => {
            let signing = g.object_or_null(&signer);
            cmd.auth(ENDORSEMENT).auth(signing).hex("0002 6162").hex(keys::signing_scheme(g, signing))
        }
        0x14d => {
            let signing = g.object_or_null(&signer);
            let session = g.any_session();
            cmd.auth(ENDORSEMENT).auth(signing).handle(session).hex("0002 6162").hex(keys::signing_scheme(g, signing))
        }
        0x14e => {
            let index = g.nv();
            cmd.auth(g.nv_auth(index)).handle(index).u16(g.rng.pick(&[0, 1, 8, 8, 8, 16, 32, 33])).u16(g.rng.pick(&[0, 0, 0, 1, 8]))
        }
        0x14f => {
            let index = g.nv();
            cmd.auth(g.nv_auth(index)).handle(index)
        }
        0x150 => {
            let auth = g.password();
            cmd.auth(g.object(&[Kind::Sign, Kind::Sealed])).handle(g.object(&[Kind::Storage])).sized(&auth)
        }
        0x152 => {
            let old = g.object_or_null(&[Kind::Storage]);
            let seed = if old == NULL { "0000" } else { "0006 0001 01 0001 02" };
            cmd.auth(old).handle(g.object_or_null(&[Kind::Storage])).hex("0002 aabb 0004 000b aabb").hex(seed)
        }
        0x153 | 0x191 => {
            let auth = g.password();
            let parent = if cmd.code == 0x191 && g.rng.chance(30) { g.rng.pick(ANY_HIERARCHY) } else { g.object(&[Kind::Storage]) };
            let (kind, sensitive, template) = keys::template(g, parent >> 24 == 0x40, &auth);
            let note = if cmd.code == 0x153 { Note::Created(parent, kind, trimmed(&auth)) } else { Note::Object(kind, trimmed(&auth), false) };
            let cmd = cmd.auth(parent).sized(&sensitive).sized(&template).note(note);
            if cmd.code == 0x153 { cmd.hex("0000 00000000") } else { cmd }
        }
        0x154 => cmd.auth(g.object(&[Kind::Exchange])).sized(&keys::point(g)),
        0x155 => {
            let (key, data) = (g.object(&[Kind::Hmac]), g.data());
            cmd.auth(key).sized(&data).hex(g.rng.pick(&["0010", "000b", "0004"]))
        }
        0x156 => cmd.auth(g.object(&[Kind::Storage])).hex(g.rng.pick(&[
            "0000 000e 0008 000b 00000040 0000 0010 0000 000e 000c 0008 0000 0000 0004 64617461 0000 0010",
            "0000 0012 0025 000b 00060040 0000 0006 0080 0043 0000 0018 0016 0025 0000 0000 0010 000102030405060708090a0b0c0d0e0f 0000 0010",
        ])),
        0x157 => {
            let parent = g.object(&[Kind::Storage]);
            match g.model.created.last().cloned() {
                Some((under, kind, auth, both)) if g.rng.chance(90) => {
                    let parent = if g.rng.chance(90) { under } else { parent };
                    cmd.auth(parent).each(&both).note(Note::Object(kind, auth, false))
                }
                _ => cmd.auth(parent).hex("0004 0002 aabb 000e 0008 000b 00000052 0000 0010 0000"),
            }
        }
        0x158 => {
            let signing = g.object_or_null(&signer);
            cmd.auth(signing).hex("0002 6162").hex(keys::signing_scheme(g, signing)).hex("00000001 000b 03 010001")
        }
        0x159 => {
            let data = g.rng.bytes(128);
            cmd.auth(g.object(&[Kind::RsaSign])).sized(&data).hex(g.rng.pick(&["0010 0000", "0015 0000", "0017 000b 0000", "0017 0004 0002 6100", "0014 000b 0000"]))
        }
        0x15b => {
            let (auth, key) = (g.password(), g.object(&[Kind::Hmac]));
            let same = g.model.object(key).is_some_and(|o| o.same);
            cmd.auth(key).sized(&auth).hex(g.rng.pick(&["0010", "000b"])).note(Note::Object(Kind::HashSequence, trimmed(&auth), same))
        }
        0x15c => {
            let (sequence, data) = (g.object(&[Kind::HashSequence, Kind::EventSequence]), g.data());
            cmd.auth(sequence).sized(&data)
        }
        0x15d => {
            let (key, digest) = (g.object(&signer), g.digest());
            cmd.auth(key).sized(&digest).hex(keys::signing_scheme(g, key)).hex("8024 40000007 0000")
        }
        0x15e => cmd.auth(g.object(&[Kind::Sealed])),
        0x161 => match g.model.contexts.last().cloned() {
            Some((of, both)) if g.rng.chance(90) => {
                let known = g.model.object(of).cloned();
                let note = if of >> 24 == 0x80 { Note::Object(known.as_ref().map_or(Kind::Unknown, |o| o.kind), known.map(|o| o.auth).unwrap_or_default(), false) } else { Note::Session };
                cmd.each(&both).note(note)
            }
            _ => cmd.hex("0000000000000001 80000000 40000001 0006 0004 0002 aabb"),
        },
        0x162 => {
            let of = if g.rng.chance(50) { g.any_session() } else { g.object(&[Kind::Sign, Kind::HashSequence, Kind::Hmac]) };
            cmd.handle(of).note(Note::Context(of))
        }
        0x163 => cmd.handle(g.object(&[Kind::Exchange])),
        0x164 | 0x193 => {
            let (key, mut data) = (g.object(&[Kind::Aes]), g.data());
            let mode = g.rng.pick(&["0043", "0043", "0010", "0040", "0041", "0042", "0044"]);
            if matches!(mode, "0042" | "0044") {
                data.truncate(data.len() / 16 * 16);
            }
            let iv = if mode == "0044" { "0000" } else { "0010 000102030405060708090a0b0c0d0e0f" };
            let way = g.rng.pick(&["00", "01"]);
            if cmd.code == 0x164 { cmd.auth(key).hex(way).hex(mode).hex(iv).sized(&data) } else { cmd.auth(key).sized(&data).hex(way).hex(mode).hex(iv) }
        }
        0x165 => {
            let mut all: Vec<_> = g.model.transient().map(|o| o.handle).collect();
            all.extend(&g.model.sessions);
            cmd.u32(if all.is_empty() { 0x8000_0001 } else { g.rng.pick(&all) })
        }
        0x167 => keys::external(g, cmd),
        0x168 => cmd.handle(g.object(&[Kind::Storage])).hex("0004 01020304 0022 000b").raw(&[7; 32]),
        0x169 => cmd.handle(g.nv()),
        0x173 => {
            let all: Vec<_> = g.model.objects.iter().map(|o| o.handle).collect();
            cmd.handle(if all.is_empty() { 0x8000_0000 } else { g.rng.pick(&all) })
        }
        0x174 => {
            let data = g.data();
            cmd.handle(g.object(&[Kind::RsaSign])).sized(&data).hex(g.rng.pick(&["0010 0000", "0015 0000", "0017 000b 0000", "0017 0004 0002 6100"]))
        }
        0x176 => {
            let n = g.rng.pick(&[16, 20, 32, 32]);
            let nonce = g.rng.bytes(n);
            let bind = if g.rng.chance(90) { NULL } else { g.rng.pick(&[OWNER, ENDORSEMENT, PLATFORM, 0x8000_0000]) };
            let kind = g.rng.pick(&["00", "00", "01", "01", "03"]);
            let symmetric = g.rng.pick(&["0010", "0010", "0006 0080 0043", "000a 000b"]);
            cmd.handle(NULL).handle(bind).sized(&nonce).hex("0000").hex(kind).hex(symmetric).hex(g.rng.pick(&["000b", "000b", "000b", "0004"])).note(Note::Session)
        }
        0x177 => {
            let (key, digest) = (g.object(&[Kind::Sign, Kind::RsaSign, Kind::Hmac, Kind::Public]), g.digest());
            let signature = g.rng.pick(&["0018 000b 0001 01 0001 01", "0014 000b 0002 0101", "0005 000b", "0016 000b 0002 0101"]);
            let cmd = cmd.handle(key).sized(&digest).hex(signature);
            if signature == "0005 000b" { cmd.raw(&digest) } else { cmd }
        }
        0x178 => cmd.u16(g.rng.pick(&[3, 4, 5, 0])),
        0x17a => cmd.hex(g.rng.pick(&[
            "00000001 80000000 00000010",
            "00000001 02000000 00000010",
            "00000001 03000000 00000010",
            "00000001 01000000 00000010",
            "00000001 81000000 00000010",
            "00000001 40000000 00000020",
            "00000001 00000000 00000004",
            "00000005 00000000 00000001",
            "00000007 00000000 00000020",
            "00000007 00000005 00000001",
            "00000006 00000200 00000001",
            "00000004 00000000 00000040",
            "00000003 00000000 00000040",
            "00000008 00000000 00000001",
            "00000009 40000000 00000010",
            "00000000 0000000b 00000001",
            "00000006 00000201 00000001",
            "00000006 0000020f 00000003",
            "00000100 00000000 00000001",
        ])),
        0x17b => cmd.u16(g.rng.pick(&[0, 1, 8, 32, 48, 64, 65, 0xffff])),
        0x17c | 0x181 => cmd,
        0x17d => {
            let data = g.data();
            cmd.sized(&data).hex(g.rng.pick(&["0004", "000b", "000c", "000d"])).u32(g.rng.pick(ANY_HIERARCHY))
        }
        0x17e => cmd.hex(g.rng.pick(&["00000001 000b 03 010001", "00000002 0004 03 0f0000 000b 03 800000", "00000001 000c 03 ffffff", "00000001 000d 03 0000ff", "00000000", "00000001 000b 01 ff"])),
        0x182 => {
            let (pcr, digest) = (pcr(g), g.digest());
            cmd.auth(pcr).hex("00000001 000b").raw(&digest)
        }
        0x183 => cmd.auth(20 + g.rng.below(3) as u32).hex("0000"),
        0x184 => {
            let (signing, index) = (g.object_or_null(&signer), g.nv());
            cmd.auth(signing).auth(g.nv_auth(index)).handle(index).hex("0000").hex(keys::signing_scheme(g, signing)).hex("0008 0000")
        }
        0x185 => {
            let (pcr, sequence, data) = (pcr(g), g.object(&[Kind::EventSequence]), g.data());
            cmd.auth(pcr).auth(sequence).sized(&data)
        }
        0x186 => {
            let auth = g.password();
            let (alg, kind) = g.rng.pick(&[("000b", Kind::HashSequence), ("0004", Kind::HashSequence), ("000d", Kind::HashSequence), ("0010", Kind::EventSequence)]);
            cmd.sized(&auth).hex(alg).note(Note::Object(kind, trimmed(&auth), true))
        }
        0x18a => cmd.hex(g.rng.pick(&["0025 0006 0080 0043", "0023 0010 0010 0003 0010", "0008 0005 000b", "0001 0010 0010 0800 00000000", "0025 0006 0100 0043", "0001 0006 0080 0043 0010 0400 00000000"])),
        0x18b => cmd.auth(g.object(&[Kind::Sign])).hex("0000 0000 0000"),
        0x18d => {
            let (one, two) = (keys::point(g), keys::point(g));
            cmd.auth(g.object(&[Kind::Exchange])).sized(&one).sized(&two).hex("0019 0000")
        }
        _ => cmd.u16(g.rng.pick(&[3, 4, 5])),
    }
}
