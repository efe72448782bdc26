//! Every file of the corpus, through the target it belongs to.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use bulla_fuzz_bodies::described::CODES;
use bulla_fuzz_bodies::{Body, TARGETS};
use bulla_tpm_types::cc;

/// Commands that need what no description has: a policy for the ADMIN role, physical presence, or something that the TPM has
/// made or signed. And what is no command.
const WITHOUT_SUCCESS: [u32; 14] = [
    cc::NV_UNDEFINE_SPACE_SPECIAL,
    cc::PP_COMMANDS,
    cc::NV_CHANGE_AUTH,
    cc::ACTIVATE_CREDENTIAL,
    cc::CERTIFY_CREATION,
    cc::OBJECT_CHANGE_AUTH,
    cc::IMPORT,
    cc::LOAD,
    cc::CONTEXT_LOAD,
    cc::POLICY_TICKET,
    cc::VERIFY_SIGNATURE,
    cc::PCR_SET_AUTH_VALUE,
    cc::ECC_DECRYPT,
    0x1ff,
];

/// Largest file that belongs into the corpus.
const MAX_SEED: usize = 4096;

fn replay(name: &str, body: Body) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus").join(name);
    let files: Vec<_> = fs::read_dir(&folder).expect("a folder of seeds").map(|entry| entry.expect("a file")).collect();
    assert!(files.len() >= 3, "{name} has {} seeds", files.len());
    let mut got_through = 0;
    for file in files {
        let bytes = fs::read(file.path()).expect("readable");
        assert!(bytes.len() < MAX_SEED, "{} is too large for a seed", file.path().display());
        eprintln!("{name}: {}", file.path().display());
        got_through += usize::from(body(&bytes));
    }
    assert!(got_through > 0, "no seed of {name} gets past the first checks");
}

macro_rules! replays {
    ($($name:ident),*) => {
        $(#[test]
        fn $name() {
            replay(stringify!($name), bulla_fuzz_bodies::$name);
        })*

        #[test]
        fn every_target_is_replayed_and_has_a_program() {
            let names = [$(stringify!($name)),*];
            assert_eq!(TARGETS.map(|(name, _)| name), names);
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz_targets");
            for name in names {
                let program = fs::read_to_string(folder.join(name).with_extension("rs")).expect("a program");
                assert!(program.contains(&format!("bulla_fuzz_bodies::{name}")));
            }
        }
    };
}

replays!(
    tpm_command,
    tpm_types,
    eventlog,
    evidence,
    expected,
    policy,
    boot_window,
    kernel,
    vtpm_frame,
    channel,
    agent_line,
    cpu,
    vtpm_state,
    vtpm_state_file,
    swtpm_control
);

/// The seeds begin behind the checks of nearly every command: it succeeds in one of them.
#[test]
fn commands_succeed_in_a_seed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus/tpm_command");
    let mut missing: BTreeSet<u32> = CODES.into_iter().collect();
    for entry in fs::read_dir(folder).expect("a folder of seeds") {
        let path = entry.expect("a file").path();
        let succeeded = bulla_fuzz_bodies::succeeded(&fs::read(&path).expect("readable"));
        eprintln!("{}: {succeeded:x?}", path.display());
        succeeded.iter().for_each(|code| {
            missing.remove(code);
        });
    }
    assert!(missing.iter().eq(&WITHOUT_SUCCESS), "{missing:x?}");
}
