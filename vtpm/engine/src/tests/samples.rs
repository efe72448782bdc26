//! For every command a sample that succeeds, and what each way to spoil it is answered with, as Part 3, 5 says.

use bulla_tpm_types::{CommandAttributes, Handle, Rc, rc};

use super::admin::policy_for;
use super::fuzz::{prepared, valid_commands};
use super::{powered_on, run, started, unhex};
use crate::Tpm;
use crate::table::{Auth, COMMANDS, Command, find};

/// Octets of tag, commandSize and commandCode.
const HEADER: usize = 10;
/// Octets of a password session of the Empty Auth.
const PASSWORD: usize = 9;

/// Samples of the commands that need more than [`prepared`] has.
const SAMPLES: &str = include_str!("data/samples.txt");

/// A command that succeeds on the TPM beside it.
struct Sample {
    spec: &'static Command,
    tpm: Tpm,
    bytes: Vec<u8>,
}

fn answer(tpm: &mut Tpm, command: &[u8]) -> Rc {
    code_of(&run(tpm, command))
}

fn code_of(response: &[u8]) -> Rc {
    Rc(u32::from_be_bytes(response[6..HEADER].try_into().expect("four octets")))
}

fn spec_of(command: &[u8]) -> &'static Command {
    find(u32::from_be_bytes(command[6..HEADER].try_into().expect("four octets"))).expect("a command of the table")
}

/// With commandSize set right.
fn sized(mut command: Vec<u8>) -> Vec<u8> {
    let size = (command.len() as u32).to_be_bytes();
    command[2..6].copy_from_slice(&size);
    command
}

/// The command of a line of [`SAMPLES`].
fn command(line: &str) -> Vec<u8> {
    let mut parts = line.split('|').map(str::trim);
    let (head, sessions, params) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""), parts.next().unwrap_or(""));
    let sessions = unhex(&sessions.replace('P', "40000009 0000 01 0000"));
    let mut bytes = vec![0x80, if sessions.is_empty() { 1 } else { 2 }, 0, 0, 0, 0];
    bytes.extend(unhex(&format!("00000{head}")));
    if !sessions.is_empty() {
        bytes.extend((sessions.len() as u32).to_be_bytes());
        bytes.extend(sessions);
    }
    bytes.extend(unhex(params));
    sized(bytes)
}

/// The octets that a `#` of a line refers to, in hexadecimal.
fn referred(reference: &str, responses: &[Vec<u8>]) -> String {
    let (which, part) = reference.split_once('.').map_or((reference, None), |(a, b)| (a, Some(b)));
    let params = &responses[which.parse::<usize>().expect("the number of a line")];
    let octets = match part {
        None => params.as_slice(),
        Some(part) => {
            let (nth, octets) = part.split_once(':').map_or((part, None), |(a, b)| (a, Some(b)));
            let size = |at: usize| 2 + usize::from(u16::from_be_bytes([params[at], params[at + 1]]));
            let at = (0..nth.parse().expect("a number")).fold(0, |at, _: usize| at + size(at));
            &params[at..at + octets.map_or_else(|| size(at), |n| n.parse().expect("a number"))]
        }
    };
    octets.iter().map(|b| format!("{b:02x}")).collect()
}

/// The sample of a paragraph of [`SAMPLES`].
fn read(paragraph: &str) -> Sample {
    let mut tpm = started();
    let (mut policy, mut responses, mut last) = (String::new(), Vec::new(), None::<Vec<u8>>);
    for line in paragraph.lines() {
        if let Some(command) = line.strip_prefix('@') {
            let digest = policy_for(u32::from_str_radix(command, 16).expect("a command's code"));
            policy = digest.iter().map(|b| format!("{b:02x}")).collect();
            continue;
        }
        if let Some(command) = last {
            let response = run(&mut tpm, &command);
            assert_eq!(code_of(&response), rc::SUCCESS, "before {line}");
            let handle = spec_of(&command).attributes.contains(CommandAttributes::R_HANDLE);
            let start = HEADER + if handle { 4 } else { 0 } + if response[1] == 2 { 4 } else { 0 };
            let size = |at: usize| u32::from_be_bytes(response[at..at + 4].try_into().expect("four octets")) as usize;
            let end = if response[1] == 2 { start + size(start - 4) } else { response.len() };
            responses.push(response[start..end].to_vec());
        }
        let words = line.replace("@policy", &policy);
        let words = words.split(' ').map(|word| match word.strip_prefix('#') {
            Some(reference) => referred(reference, &responses),
            None => word.to_owned(),
        });
        last = Some(command(&words.collect::<Vec<_>>().join(" ")));
    }
    let bytes = last.expect("a line");
    Sample { spec: spec_of(&bytes), tpm, bytes }
}

/// A sample of each command.
fn samples() -> Vec<Sample> {
    let text: Vec<_> = SAMPLES.lines().filter(|l| !l.starts_with('#')).collect();
    let mut all: Vec<_> = text.join("\n").trim().split("\n\n").map(read).collect();
    let (tpm, _) = powered_on();
    all.push(Sample { spec: find(0x144).expect("Startup"), tpm, bytes: command("144 || 0000") });
    let mut present = started();
    present.set_physical_presence(true);
    let bytes = command("12d 4000000c | P | 00000001 00000126 00000000");
    all.push(Sample { spec: find(0x12d).expect("PP_Commands"), tpm: present, bytes });
    for bytes in valid_commands() {
        let spec = spec_of(&bytes);
        if all.iter().all(|s| s.spec.code != spec.code) && answer(&mut prepared(), &bytes) == rc::SUCCESS {
            all.push(Sample { spec, tpm: prepared(), bytes });
        }
    }
    all
}

#[test]
fn every_command_has_a_sample_that_succeeds() {
    let mut samples = samples();
    let has = |c: &&Command| samples.iter().any(|s| s.spec.code == c.code);
    let without: Vec<_> = COMMANDS.iter().filter(|c| !has(c)).map(|c| c.name).collect();
    assert!(without.is_empty(), "{without:?}");
    for sample in &mut samples {
        assert_eq!(answer(&mut sample.tpm, &sample.bytes), rc::SUCCESS, "{}", sample.spec.name);
    }
}

/// Where the parts of a sample are: handles, sessions (each of a fixed size here, but for those of nonces), parameters.
struct Parts {
    sessions: usize,
    params: usize,
}

fn parts(sample: &Sample) -> Parts {
    let sessions = HEADER + 4 * sample.spec.handles.len();
    let with = sample.bytes[1] == 2;
    let area = |at: usize| 4 + u32::from_be_bytes(sample.bytes[at..at + 4].try_into().expect("four octets")) as usize;
    Parts { sessions, params: sessions + if with { area(sessions) } else { 0 } }
}

/// Each length shorter than it should be, and each longer by an octet (Part 3, 5.2, 5.4, 5.5, 5.7).
#[test]
fn every_command_is_answered_rightly_at_every_length() {
    for mut sample in samples() {
        let (name, at) = (sample.spec.name, parts(&sample));
        for length in HEADER..sample.bytes.len() {
            let got = answer(&mut sample.tpm, &sized(sample.bytes[..length].to_vec()));
            let handles_cut = length < at.sessions;
            let what = format!("{name} of {length} octets: {:#x}", got.0);
            if handles_cut {
                assert_eq!(got, rc::INSUFFICIENT.handle((length - HEADER) / 4 + 1), "{what}");
            } else if length < at.params {
                assert_eq!(got, rc::AUTHSIZE, "{what}");
            } else {
                // Which parameter is the first that is missing depends on their sizes.
                let missing = (1..16).any(|n| got == rc::INSUFFICIENT.parameter(n) || got == rc::SIZE.parameter(n));
                assert!(missing, "{what}");
            }
        }
        for length in 0..HEADER {
            let got = answer(&mut sample.tpm, &sample.bytes[..length]);
            assert!(matches!(got, rc::INSUFFICIENT | rc::COMMAND_SIZE), "{name}: {:#x}", got.0);
        }
        let longer = [&sample.bytes[..], &[0]].concat();
        assert_eq!(answer(&mut sample.tpm, &longer), rc::COMMAND_SIZE, "{name}");
        assert_eq!(answer(&mut sample.tpm, &sized(longer)), rc::SIZE, "{name}");
        // An error has changed nothing.
        assert_eq!(answer(&mut sample.tpm, &sample.bytes), rc::SUCCESS, "{name}");
    }
}

/// Each handle replaced by handles of every type, there or not (Part 3, 5.4).
#[test]
fn every_command_refuses_every_wrong_handle() {
    const HANDLES: [u32; 20] = [
        0x18,
        0x0100_7777,
        0x0200_003f,
        0x0200_0040,
        0x0300_003f,
        0x0300_0040,
        0x4000_0000,
        0x4000_0001,
        0x4000_0007,
        0x4000_0009,
        0x4000_000a,
        0x4000_000b,
        0x4000_000c,
        0x4000_000d,
        0x8000_0007,
        0x8000_0008,
        0x8100_7777,
        0x8180_7777,
        0x9000_0000,
        0xffff_ffff,
    ];
    for mut sample in samples() {
        let name = sample.spec.name;
        for (index, spec) in sample.spec.handles.iter().enumerate() {
            for handle in HANDLES {
                let mut bytes = sample.bytes.clone();
                bytes[HEADER + 4 * index..HEADER + 4 * index + 4].copy_from_slice(&handle.to_be_bytes());
                let there = matches!(handle >> 24, 0 | 0x40);
                if spec.kind.accepts(Handle(handle)) && there {
                    continue;
                }
                let want = match handle >> 24 {
                    _ if !spec.kind.accepts(Handle(handle)) => rc::VALUE.handle(index + 1),
                    0x02 | 0x03 | 0x80 => Rc(rc::REFERENCE_H0.0 + index as u32),
                    _ => rc::HANDLE.handle(index + 1),
                };
                assert_eq!(answer(&mut sample.tpm, &bytes), want, "{name}: handle {index} is {handle:#x}");
            }
        }
        assert_eq!(answer(&mut sample.tpm, &sample.bytes), rc::SUCCESS, "{name}");
    }
}

/// Tags, sessions that are missing, too many, of no type, with attributes that are not theirs (Part 3, 5.2 and 5.5).
#[test]
fn every_command_refuses_every_wrong_session() {
    for mut sample in samples() {
        let (name, at) = (sample.spec.name, parts(&sample));
        let auths = sample.spec.handles.iter().filter(|h| h.auth != Auth::None).count();
        let [head, area, params] =
            [&sample.bytes[..at.sessions], &sample.bytes[at.sessions..at.params], &sample.bytes[at.params..]]
                .map(<[u8]>::to_vec);
        let with = |sessions: &[u8]| {
            let tag: &[u8] = if sessions.is_empty() { &[0x80, 1] } else { &[0x80, 2] };
            let size = (sessions.len() as u32).to_be_bytes();
            let size: &[u8] = if sessions.is_empty() { &[] } else { &size };
            sized([tag, &head[2..], size, sessions, &params].concat())
        };
        for tag in [0, 0x00c1, 0x00c4, 0x8000, 0x8003, 0xffff] {
            let mut bytes = sample.bytes.clone();
            bytes[..2].copy_from_slice(&u16::to_be_bytes(tag));
            assert_eq!(answer(&mut sample.tpm, &bytes), rc::BAD_TAG, "{name}");
        }
        let password = unhex("40000009 0000 01 0000");
        let sent = area.get(4..).unwrap_or_default().to_vec();
        if auths > 0 {
            assert_eq!(answer(&mut sample.tpm, &with(&[])), rc::AUTH_MISSING, "{name}");
        }
        if !sample.spec.sessions {
            assert_eq!(answer(&mut sample.tpm, &with(&password)), rc::AUTH_CONTEXT, "{name}");
            continue;
        }
        if auths == 2 && sent.len() == 2 * PASSWORD {
            assert_eq!(answer(&mut sample.tpm, &with(&password)), rc::AUTH_MISSING, "{name}");
        }
        // What is wrong with the first session, and what that is answered with.
        let wrong = [
            ("40000009 0000 09 0000", rc::RESERVED_BITS.session(1)),
            ("40000009 0000 11 0000", rc::RESERVED_BITS.session(1)),
            ("40000009 0000 03 0000", rc::ATTRIBUTES.session(1)),
            ("40000009 0000 05 0000", rc::ATTRIBUTES.session(1)),
            ("40000009 0000 21 0000", rc::ATTRIBUTES.session(1)),
            ("40000009 0000 41 0000", rc::ATTRIBUTES.session(1)),
            ("40000009 0000 81 0000", rc::ATTRIBUTES.session(1)),
            ("40000009 0001 00 01 0000", rc::NONCE.session(1)),
            ("40000009 0041 00 01 0000", rc::SIZE.session(1)),
            ("40000009 0000 01 0041", rc::SIZE.session(1)),
            ("40000007 0000 01 0000", rc::VALUE.session(1)),
            ("80000000 0000 01 0000", rc::VALUE.session(1)),
            ("02000040 0000 01 0000", rc::VALUE.session(1)),
            ("0200003f 0000 01 0000", rc::REFERENCE_S0),
            ("0300003f 0000 01 0000", rc::REFERENCE_S0),
        ];
        for (session, want) in wrong {
            let bytes = with(&unhex(session));
            assert_eq!(answer(&mut sample.tpm, &bytes), want, "{name}: {session}");
        }
        // One more than there are handles to authorize.
        let passwords = password.repeat(auths + 1);
        let more = answer(&mut sample.tpm, &with(&passwords));
        let sent_by_policy = sent.first() == Some(&3);
        if !sent_by_policy && sample.spec.handles.iter().all(|h| matches!(h.auth, Auth::None | Auth::User)) {
            assert_eq!(more, rc::HANDLE.session(auths + 1), "{name}");
        }
        assert_eq!(answer(&mut sample.tpm, &with(&password.repeat(4))), rc::SIZE.session(4), "{name}");
        assert_eq!(answer(&mut sample.tpm, &sample.bytes), rc::SUCCESS, "{name}");
    }
}
