//! What the engine's commands cost, without process or socket: `cargo bench -p bulla-vtpm`.

use std::hint::black_box;

use bulla_tpm_types::hash::digest_banks;
use bulla_tpm_types::{
    HashAlg, List, PcrSelection, PublicKeyRsa, PublicKind, StartupType, command, response, rh, templates,
};
use bulla_vtpm::engine::Tpm;
use bulla_vtpm::platform;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn started() -> Tpm {
    let mut tpm = platform::manufacture();
    tpm.init();
    response::parse_empty(&tpm.execute(0, &command::startup(StartupType::Clear))).unwrap();
    tpm
}

fn commands(c: &mut Criterion) {
    let mut tpm = started();
    let extend = command::pcr_extend(8, &digest_banks(b"kernel"));
    c.bench_function("PCR_Extend, three banks", |b| {
        b.iter(|| response::parse_empty(&tpm.execute(0, black_box(&extend))).unwrap());
    });
    let random = command::get_random(32);
    c.bench_function("GetRandom, 32 bytes", |b| {
        b.iter(|| response::parse_get_random(&tpm.execute(0, black_box(&random))).unwrap());
    });

    let create = command::create_primary(rh::OWNER, &templates::ak_p256());
    c.bench_function("CreatePrimary P-256 and FlushContext", |b| {
        b.iter(|| {
            let key = response::parse_create_primary(&tpm.execute(0, black_box(&create))).unwrap();
            response::parse_empty(&tpm.execute(0, &command::flush_context(key.handle))).unwrap();
        });
    });
    let key = response::parse_create_primary(&tpm.execute(0, &create)).unwrap();
    let pcrs: Vec<u32> = (0..16).collect();
    let selection = List::from_slice(&[PcrSelection::new(HashAlg::Sha256, &pcrs)]).unwrap();
    let quote = command::quote(key.handle, &[7; 32], &selection);
    c.bench_function("Quote P-256, 16 PCR", |b| {
        b.iter(|| {
            let answer = tpm.execute(0, black_box(&quote));
            response::parse_quote(&answer).unwrap();
        });
    });
}

fn rsa(c: &mut Criterion) {
    let mut tpm = started();
    // Each template makes another key: how long that takes is a matter of luck.
    let mut number = 0u64;
    c.bench_function("CreatePrimary RSA-2048 and FlushContext", |b| {
        b.iter(|| {
            number += 1;
            let mut template = templates::ak_rsa2048();
            if let PublicKind::Rsa { unique, .. } = &mut template.kind {
                *unique = PublicKeyRsa::new(&number.to_be_bytes()).unwrap();
            }
            let create = command::create_primary(rh::OWNER, &template);
            let key = response::parse_create_primary(&tpm.execute(0, &create)).unwrap();
            response::parse_empty(&tpm.execute(0, &command::flush_context(key.handle))).unwrap();
        });
    });
    let create = command::create_primary(rh::OWNER, &templates::ak_rsa2048());
    let key = response::parse_create_primary(&tpm.execute(0, &create)).unwrap();
    let selection = List::from_slice(&[PcrSelection::new(HashAlg::Sha256, &[0])]).unwrap();
    let quote = command::quote(key.handle, &[7; 32], &selection);
    c.bench_function("Quote RSA-2048", |b| {
        b.iter(|| {
            let answer = tpm.execute(0, black_box(&quote));
            response::parse_quote(&answer).unwrap();
        });
    });
}

fn signals(c: &mut Criterion) {
    let mut tpm = platform::manufacture();
    c.bench_function("_TPM_Init and Startup", |b| {
        let startup = command::startup(StartupType::Clear);
        b.iter(|| {
            tpm.init();
            response::parse_empty(&tpm.execute(0, &startup)).unwrap();
        });
    });
    let firmware = vec![0x5A; 64 << 10];
    let mut group = c.benchmark_group("signals");
    group.throughput(Throughput::Bytes(firmware.len() as u64));
    group.bench_function("H-CRTM sequence, 64 KiB, three banks", |b| {
        b.iter(|| {
            tpm.init();
            tpm.hash_start();
            firmware.chunks(4096).for_each(|piece| tpm.hash_data(piece));
            black_box(tpm.hash_end());
        });
    });
    group.finish();
}

criterion_group!(benches, commands, rsa, signals);
criterion_main!(benches);
