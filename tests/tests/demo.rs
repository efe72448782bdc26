//! The main job, as a newcomer runs it.

use std::process::Command;

use bulla_tests::{command, kvm_or_skip, program, run, run_expecting};

#[test]
fn the_demo_holds_every_claim_and_says_so_in_json() {
    if !kvm_or_skip("the demo") {
        return;
    }
    let report: serde_json::Value =
        serde_json::from_str(&run_expecting(command("bulla").args(["demo", "--json"]), 0)).unwrap();
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
}

/// A name space without /dev/kvm: a file system where /dev is empty.
fn without_kvm(arguments: &[&str]) -> Option<std::process::Output> {
    let script = format!("mount -t tmpfs none /dev && exec {} {}", program("bulla").display(), arguments.join(" "));
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "--map-root-user", "sh", "-c", &script]);
    let probe =
        Command::new("unshare").args(["--mount", "--map-root-user", "mount", "-t", "tmpfs", "none", "/dev"]).output();
    if !probe.is_ok_and(|o| o.status.success()) {
        println!("skipped: this user cannot make a mount name space");
        return None;
    }
    Some(run(&mut unshare))
}

#[test]
fn without_dev_kvm_there_is_a_message_and_exit_code_3() {
    for arguments in [&["demo"][..], &["run", "--kernel", "tenant"]] {
        let Some(output) = without_kvm(arguments) else { return };
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{stderr}");
        assert!(stderr.contains("/dev/kvm"), "{stderr}");
        assert!(!stderr.contains("panicked"), "{stderr}");
    }
}

#[test]
fn the_doctor_speaks_json_and_its_exit_code_says_whether_vms_can_run() {
    let code = if kvm_or_skip("the doctor's good case") { 0 } else { 3 };
    let findings: serde_json::Value =
        serde_json::from_str(&run_expecting(command("bulla").args(["doctor", "--json"]), code)).unwrap();
    let names: Vec<&str> = findings.as_array().unwrap().iter().filter_map(|f| f["name"].as_str()).collect();
    for name in ["kvm", "vtpm", "hugepages", "sev", "tdx", "open-files"] {
        assert!(names.contains(&name), "{name} in {names:?}");
    }
}
