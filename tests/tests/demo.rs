//! The main job, as a newcomer runs it.

use std::process::Command;

use bulla_tests::{command, kvm_or_skip, program, run, run_expecting};

fn all_claims_hold(report: &str) -> serde_json::Value {
    let report: serde_json::Value = serde_json::from_str(report).unwrap();
    for claim in [
        "ok",
        "tenant_a_verified",
        "tenant_b_verified",
        "flipped_kernel_rejected",
        "flipped_kernel_named",
        "channel_between_verified_tenants",
        "messages_exchanged",
        "host_sees_only_ciphertext",
        "flipped_bit_detected",
        "powered_off",
    ] {
        assert_eq!(report[claim], true, "{claim} in {report:#}");
    }
    report
}

#[test]
fn the_demo_holds_every_claim_and_says_so_in_json() {
    if !kvm_or_skip("the demo on KVM") {
        return;
    }
    let report = run_expecting(command("bulla").args(["demo", "--accel", "kvm", "--json"]), 0);
    assert_eq!(all_claims_hold(&report)["accel"], "kvm");
}

#[test]
fn the_demo_holds_every_claim_on_the_software_processor() {
    let report = run_expecting(command("bulla").args(["demo", "--accel", "soft", "--json"]), 0);
    assert_eq!(all_claims_hold(&report)["accel"], "soft");
}

#[test]
fn without_dev_kvm_the_demo_takes_the_software_processor_and_says_why() {
    let Some(output) = without_kvm(&["demo", "--json"]) else { return };
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    let report = all_claims_hold(&String::from_utf8_lossy(&output.stdout));
    assert_eq!((&report["accel"], &report["accel_why"]), (&"soft".into(), &"there is no /dev/kvm".into()));
}

#[test]
fn a_run_says_on_standard_error_what_was_taken() {
    let arguments = ["run", "--kernel", "tenant", "--memory", "32M", "--until", "handover"];
    let Some(output) = without_kvm(&arguments) else { return };
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(stderr.contains("runs on the software processor: there is no /dev/kvm"), "{stderr}");
}

/// Makes a /dev with nothing in it but what every program may count on.
const EMPTY_DEV: &str = "mount -t tmpfs none /mnt && touch /mnt/null /mnt/urandom && \
    mount --bind /dev/null /mnt/null && mount --bind /dev/urandom /mnt/urandom && mount --rbind /mnt /dev";

/// Runs bulla in a name space without /dev/kvm.
fn without_kvm(arguments: &[&str]) -> Option<std::process::Output> {
    let unshare = |then: &str| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--map-root-user", "sh", "-c", &format!("{EMPTY_DEV} && {then}")]);
        command
    };
    if !unshare("test ! -e /dev/kvm").output().is_ok_and(|o| o.status.success()) {
        println!("skipped: this user cannot make a mount name space");
        return None;
    }
    Some(run(&mut unshare(&format!("exec {} {}", program("bulla").display(), arguments.join(" ")))))
}

#[test]
fn without_dev_kvm_there_is_a_message_and_exit_code_3_for_those_who_want_kvm() {
    for arguments in [&["demo", "--accel", "kvm"][..], &["run", "--accel", "kvm", "--kernel", "tenant"]] {
        let Some(output) = without_kvm(arguments) else { return };
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{stderr}");
        assert!(stderr.contains("/dev/kvm"), "{stderr}");
        assert!(!stderr.contains("panicked"), "{stderr}");
    }
}

#[test]
fn the_doctor_speaks_json_and_its_exit_code_says_whether_vms_can_run() {
    let findings: serde_json::Value =
        serde_json::from_str(&run_expecting(command("bulla").args(["doctor", "--json"]), 0)).unwrap();
    let names: Vec<&str> = findings.as_array().unwrap().iter().filter_map(|f| f["name"].as_str()).collect();
    for name in ["accel", "kvm", "soft", "vtpm", "hugepages", "sev", "tdx", "open-files"] {
        assert!(names.contains(&name), "{name} in {names:?}");
    }
}
