//! Every file of the corpus, through the target it belongs to.

use std::fs;
use std::path::Path;

use bulla_fuzz_bodies::{Body, TARGETS};

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

/// A seed that no command of succeeds shows nothing of the commands in it.
#[test]
fn commands_of_every_seed_succeed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus/tpm_command");
    for entry in fs::read_dir(folder).expect("a folder of seeds") {
        let path = entry.expect("a file").path();
        let successes = bulla_fuzz_bodies::successes(&fs::read(&path).expect("readable"));
        eprintln!("{}: {successes} commands succeed", path.display());
        assert!(successes > 0, "{}", path.display());
    }
}
