//! Up to the first instruction: configuration, measurement, boot window.

use std::os::unix::net::UnixStream;

use bulla_boot_abi::map::{BOOT_WINDOW_BASE, BOOT_WINDOW_MAX, CMDLINE_MAX, FIRMWARE_BASE, RAM_MIN};
use bulla_boot_abi::window::{Directory, HEADER_LEN, Kind};
use bulla_vtpm_client::{Op, VtpmClient};

use super::fixture::{DIGESTS, backend, bootloader, build, firmware, go_on, listening_vtpm, small, taken};
use crate::machine::{BuildError, ConfigError, Images, Machine, MachineConfig, VmState};
use crate::memory::{LayoutError, MemoryError};

fn images<'a>(firmware: &'a [u8], bootloader: &'a [u8]) -> Images<'a> {
    Images { firmware, bootloader, kernel: b"kernel", initrd: None, cmdline: "" }
}

#[test]
fn the_vtpm_hashes_exactly_the_firmware_before_anything_runs() {
    let Some(backend) = backend() else { return };
    let (image, second) = (firmware(&[0xF4]), bootloader());
    let (vtpm, heard) = listening_vtpm();
    let machine = Machine::build(small(), &images(&image, &second), &backend, vtpm, go_on()).unwrap();
    assert_eq!(machine.state(), VmState::Created);
    let heard = taken(&heard);
    let ops: Vec<u8> = heard.iter().map(|(op, _)| *op).collect();
    assert_eq!(ops[..2], [Op::PowerOn as u8, Op::HashStart as u8]);
    assert_eq!(ops.last(), Some(&(Op::HashEnd as u8)));
    let hashed: Vec<u8> =
        heard.iter().filter(|(op, _)| *op == Op::HashData as u8).flat_map(|(_, d)| d.clone()).collect();
    assert_eq!(hashed, image);
    let mut loaded = vec![0; image.len()];
    machine.memory().read(FIRMWARE_BASE, &mut loaded).unwrap();
    assert_eq!(loaded, image, "the firmware measured is the firmware in memory");
}

#[test]
fn the_boot_window_holds_what_was_given_and_the_digests_the_vtpm_told() {
    let Some(machine) = build(&[0xF4], small(), go_on()) else { return };
    let machine = machine.unwrap();
    let mut header = vec![0; HEADER_LEN];
    machine.memory().read(BOOT_WINDOW_BASE, &mut header).unwrap();
    let directory = Directory::parse(&header).unwrap();
    let item = |kind| {
        let extent = directory.get(kind).unwrap();
        let mut bytes = vec![0; usize::try_from(extent.len).unwrap()];
        machine.memory().read(BOOT_WINDOW_BASE + extent.offset, &mut bytes).unwrap();
        bytes
    };
    assert_eq!(item(Kind::Kernel), b"kernel");
    assert_eq!(item(Kind::Initrd), b"initrd");
    assert_eq!(item(Kind::CommandLine), b"quiet");
    assert_eq!(item(Kind::Bootloader), bootloader());
    assert_eq!(item(Kind::FirmwareDigests), DIGESTS);
    let map = bulla_boot_abi::window::decode_memory_map(&item(Kind::MemoryMap)).unwrap();
    assert_eq!(map, bulla_boot_abi::window::standard_memory_map(RAM_MIN));
    assert!(item(Kind::Acpi).starts_with(b"RSD PTR "));
}

#[test]
fn a_vtpm_that_is_gone_stops_the_build() {
    let Some(backend) = backend() else { return };
    let (image, second) = (firmware(&[]), bootloader());
    let (ours, theirs) = UnixStream::pair().unwrap();
    drop(theirs);
    let vtpm = VtpmClient::new(ours).unwrap();
    let error = Machine::build(small(), &images(&image, &second), &backend, vtpm, go_on()).unwrap_err();
    assert!(matches!(error, BuildError::Vtpm(_)), "{error}");
}

#[test]
fn each_impossible_configuration_is_refused_by_name() {
    let with = |f: fn(&mut MachineConfig)| {
        let mut config = small();
        f(&mut config);
        config.validate().unwrap_err()
    };
    assert!(matches!(with(|c| c.vcpus = 0), ConfigError::Vcpus(0)));
    assert!(matches!(with(|c| c.vcpus = 17), ConfigError::Vcpus(17)));
    let error = with(|c| c.memory = RAM_MIN - 4096);
    assert!(matches!(error, ConfigError::Memory(MemoryError::Layout(LayoutError::RamSize { .. }))), "{error}");
    let error = with(|c| c.memory = RAM_MIN + 100);
    assert!(matches!(error, ConfigError::Memory(MemoryError::Layout(LayoutError::NotPages { what: "RAM", .. }))));
}

#[test]
fn each_bad_image_is_refused_by_name() {
    let Some(backend) = backend() else { return };
    let (image, second) = (firmware(&[]), bootloader());
    let good = images(&image, &second);
    let refuse = |images: Images<'_>| {
        let error = Machine::build(small(), &images, &backend, listening_vtpm().0, go_on()).unwrap_err();
        match error {
            BuildError::Config(error) => error,
            other => panic!("{other}"),
        }
    };
    assert!(matches!(refuse(Images { kernel: b"", ..good }), ConfigError::EmptyImage("kernel")));
    assert!(matches!(refuse(Images { initrd: Some(b""), ..good }), ConfigError::EmptyImage("initrd")));
    let truncated = Images { firmware: image.get(..31).unwrap(), ..good };
    assert!(matches!(refuse(truncated), ConfigError::Image { image: "firmware", .. }));
    assert!(matches!(refuse(Images { bootloader: &image, ..good }), ConfigError::Image { image: "bootloader", .. }));
    let long = "x".repeat(CMDLINE_MAX + 1);
    assert!(matches!(refuse(Images { cmdline: &long, ..good }), ConfigError::CommandLineTooLong { .. }));
    assert!(matches!(refuse(Images { cmdline: "a\0b", ..good }), ConfigError::CommandLineNul { at: 1 }));
    let huge = vec![0; usize::try_from(BOOT_WINDOW_MAX).unwrap()];
    assert!(matches!(refuse(Images { kernel: &huge, ..good }), ConfigError::ImagesTooLarge));
}

#[test]
fn a_cpu_feature_the_host_lacks_stops_the_build_by_name() {
    use crate::backend::Backend as _;
    let Some(backend) = backend() else { return };
    let shown = &backend.capabilities().cpuid;
    let lacking = crate::backend::Feature::all().iter().find(|f| !f.shown_by(shown)).unwrap();
    let config = MachineConfig { cpu_features: format!("+{}", lacking.name()).parse().unwrap(), ..small() };
    let error = build(&[], config, go_on()).unwrap().unwrap_err();
    assert!(error.to_string().contains(lacking.name()), "{error}");
}
