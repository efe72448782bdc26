//! Commands that a generator makes, to bulla-vtpm's engine and to swtpm: the same response codes, and the same octets
//! where keys, random numbers and clocks have no part in them. Skipped where swtpm is not installed.
//!
//! A run is a number of episodes. An episode begins with two new TPMs and has a seed of its own; the generator keeps a model
//! of what both TPMs have, so that most commands are valid, and then makes about half of them wrong in one place. What
//! differs on purpose is in `known.rs`, each with its reason. Any other difference is printed with the episode's seed,
//! the number of the command in it, the command and both responses.
//!
//! - `BULLA_DIFF_COMMANDS=100000` asks for more commands than usual, half of them of a random seed;
//! - `BULLA_DIFF_SEED=7` begins with this seed in place of the fixed one.

mod command;
mod compare;
mod generate;
mod keys;
mod known;
mod model;
mod mutate;
mod peers;
mod rng;
mod valid;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bulla_vtpm_engine::Tpm;

use command::{Cmd, unhex};
use compare::difference;
use generate::Generator;
use peers::Swtpm;

/// So many commands without `BULLA_DIFF_COMMANDS`.
const USUAL: usize = 3000;
/// The most commands of an episode.
const EPISODE: usize = 400;
/// The fixed seed.
const SEED: u64 = 1;
/// So many different differences are shown.
const SHOWN: usize = 60;

/// TPMA_SESSION.decrypt.
const DECRYPT: u8 = 0x20;
/// TPM_RC_RETRY.
const RETRY: u32 = 0x922;

/// What a run has found.
#[derive(Default)]
struct Findings {
    commands: usize,
    succeeded: usize,
    /// Differences that are not intended, by what they have in common, with one example and how often.
    differences: BTreeMap<String, (String, usize)>,
    /// How often each intended difference was met.
    intended: BTreeMap<&'static str, usize>,
    /// How often each command succeeded.
    successes: BTreeMap<u32, usize>,
}

fn code(response: &[u8]) -> u32 {
    u32::from_be_bytes(response[6..10].try_into().unwrap())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The same wide limits of the dictionary attack logic for both, so that wrong authorizations lock nothing.
const LIMITS: &str = "8002 00000027 0000013a 4000000a 00000009 40000009 0000 01 0000 00ffffff 00ffffff 00ffffff";

/// Runs one episode of at most `most` commands. It ends early when the states of the TPMs are no longer the same.
fn episode(seed: u64, most: usize, findings: &mut Findings) -> Option<()> {
    let mut swtpm = Swtpm::start()?;
    let mut ours = peers::ours(seed);
    let mut generator = Generator::new(seed);
    assert_eq!((code(&swtpm.run(&unhex(LIMITS))), code(&ours.execute(0, &unhex(LIMITS)))), (0, 0));
    for number in 0..most {
        let cmd = generator.next();
        if !compare_one(&cmd, (seed, number), &mut generator, &mut swtpm, &mut ours, findings) {
            break;
        }
    }
    Some(())
}

/// Runs one command. Answers whether the TPMs can still be compared.
fn compare_one(
    cmd: &Cmd,
    at: (u64, usize),
    generator: &mut Generator,
    swtpm: &mut Swtpm,
    tpm: &mut Tpm,
    findings: &mut Findings,
) -> bool {
    let [for_swtpm, for_us] = [cmd.bytes(0), cmd.bytes(1)];
    if for_swtpm.len() > 4096 || for_us.len() > 4096 {
        return true;
    }
    let mut theirs = swtpm.run(&for_swtpm);
    // It first notes that an authValue is about to be compared.
    if code(&theirs) == RETRY {
        theirs = swtpm.run(&for_swtpm);
    }
    let ours = tpm.execute(0, &for_us);
    findings.commands += 1;
    let codes = (code(&theirs), code(&ours));
    let differs = difference(cmd, &generator.model, &theirs, &ours);
    if codes == (0, 0) {
        findings.succeeded += 1;
        *findings.successes.entry(cmd.code).or_default() += 1;
        generator.model.learn(cmd, [&theirs, &ours]);
        generator.model.sync(tpm, swtpm);
    }
    let Some(what) = differs else {
        // What a session has decrypted with nonces of each TPM's own is not the same.
        return codes != (0, 0) || cmd.sessions.iter().all(|s| s.attributes & DECRYPT == 0);
    };
    if what == "codes"
        && let Some(why) = known::known(cmd, codes.0, codes.1)
    {
        *findings.intended.entry(why).or_default() += 1;
    } else if what == "handles" && cmd.handles.iter().any(|h| h >> 24 == 0x81) {
        *findings.intended.entry("a persistent object takes one of swtpm's slots while it is used").or_default() += 1;
    } else {
        let mut text = String::new();
        let _ = writeln!(text, "seed {} command {}: {what} differ; wrong on purpose: {:?}", at.0, at.1, cmd.wrong);
        let _ = writeln!(text, "  to swtpm {}\n  to us    {}", hex(&for_swtpm), hex(&for_us));
        let _ = writeln!(
            text,
            "  swtpm {:#05x} {}\n  ours  {:#05x} {}",
            codes.0,
            hex(&theirs[10..]),
            codes.1,
            hex(&ours[10..])
        );
        let key = format!("{:#x} {what} {:#x} {:#x}", cmd.code, codes.0, codes.1);
        findings.differences.entry(key).or_insert((text, 0)).1 += 1;
    }
    // An error changes nothing, so TPMs that both answer one are still alike.
    codes.0 != 0 && codes.1 != 0 && codes.0 != known::FAILURE
}

/// Runs episodes from `seed` on. `None` where swtpm is not installed.
fn run(seed: u64, commands: usize) -> Option<Findings> {
    let mut findings = Findings::default();
    let mut episodes = 0;
    while findings.commands < commands && findings.differences.len() < SHOWN {
        episode(seed.wrapping_add(episodes), EPISODE.min(commands - findings.commands), &mut findings)?;
        episodes += 1;
    }
    println!(
        "seed {seed}: {} commands in {episodes} episodes, {} of them successful",
        findings.commands, findings.succeeded
    );
    findings.intended.iter().for_each(|(why, times)| println!("{times:6} times: {why}"));
    Some(findings)
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|n| n.parse().unwrap_or_else(|e| panic!("{name}: {e}")))
}

#[test]
fn generated_commands_are_answered_like_swtpm_does() {
    let commands = number("BULLA_DIFF_COMMANDS").map_or(USUAL, |n| n as usize);
    let seeds = match number("BULLA_DIFF_SEED") {
        Some(seed) => vec![seed],
        None if std::env::var_os("BULLA_DIFF_COMMANDS").is_some() => {
            vec![SEED, std::time::UNIX_EPOCH.elapsed().unwrap().as_micros() as u64]
        }
        None => vec![SEED],
    };
    for seed in &seeds {
        let Some(findings) = run(*seed, commands / seeds.len()) else {
            println!("skipped: the comparison needs swtpm");
            return;
        };
        let never: Vec<_> =
            valid::ALL.iter().filter(|c| !findings.successes.contains_key(c)).map(|c| format!("{c:x}")).collect();
        println!("never successful: {}", never.join(" "));
        let shown: Vec<_> =
            findings.differences.iter().map(|(key, (text, times))| format!("{key}, {times} times\n{text}")).collect();
        assert!(shown.is_empty(), "{} differences:\n{}", shown.len(), shown.join("\n"));
    }
}
