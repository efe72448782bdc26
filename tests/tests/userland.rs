//! A Debian's own programs on the software processor: OpenSSL with and without its assembly, a CPU-heavy Python script, gcc and
//! what it compiles. The answers were made by the same programs on real processors.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;

use bulla_tests::{command, stock_kernel_or_skip};

#[test]
#[ignore = "slow: minutes, and needs ./x userland"]
fn programs_of_debian_give_the_answers_that_real_processors_give() {
    let test = "programs of Debian";
    let Some(kernel) = stock_kernel_or_skip(test) else { return };
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let initrd = here.join("../.cache/userland/initrd.img");
    if !initrd.exists() {
        println!("skipped: {test} needs ./x userland");
        return;
    }
    let out = command("bulla")
        .args(["run", "--accel", "soft", "--memory", "2G", "--timeout", "1800", "--cmdline"])
        .arg("console=ttyS0 panic=-1 cryptomgr.notests")
        .arg("--kernel")
        .arg(&kernel)
        .arg("--initrd")
        .arg(&initrd)
        .stdin(Stdio::null())
        .output()
        .expect("bulla runs");
    let console = String::from_utf8_lossy(&out.stdout);
    let got: BTreeMap<&str, &str> =
        console.lines().filter_map(|line| line.split_once("ANSWER ")?.1.trim_end().split_once(' ')).collect();
    let answers = std::fs::read_to_string(here.join("userland/answers.txt")).expect("answers.txt");
    let wanted: BTreeMap<&str, &str> = answers.lines().filter_map(|line| line.split_once(' ')).collect();
    assert!(wanted.len() > 25, "answers.txt has all answers");
    assert_eq!(got, wanted, "{console}");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}
