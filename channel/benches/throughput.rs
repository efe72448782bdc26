//! Seal, push, pop and open, on one thread: what a message costs.
#![allow(missing_docs, reason = "criterion's macros")]

use std::hint::black_box;

use bulla_channel::record::{Opener, Sealer};
use bulla_channel::ring::{Consumer, Direction, Fetched, Kind, Layout, Producer};
use bulla_channel::{ChannelId, HeapRegion, Region};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use zeroize::Zeroizing;

fn throughput(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("seal-push-pop-open");
    for size in [64_usize, 1024, bulla_channel::MAX_MESSAGE] {
        let region = HeapRegion::new(Layout::bytes_for(64) / 8);
        let layout = Layout::for_words(region.words()).unwrap_or_else(|error| panic!("{error}"));
        let way = Direction::InitiatorToResponder;
        let (key, id) = (Zeroizing::new([7; 32]), ChannelId::new([1; 32]));
        let (mut sealer, mut opener) = (Sealer::new(&key, id, way), Opener::new(&key, id, way));
        let (mut producer, mut consumer) = (Producer::new(layout, way), Consumer::new(layout, way));
        let (message, mut sealed, mut slot) = (vec![0x5a; size], Vec::new(), Fetched::default());
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(|| {
                sealer.seal(Kind::Data, black_box(&message), &mut sealed).expect("room in the key");
                producer.push(&region, Kind::Data, &sealed).expect("room in the ring");
                consumer.pop(&region, &mut slot).expect("an honest ring");
                black_box(opener.open(slot.kind(), slot.payload_mut()).expect("an honest record").len())
            });
        });
    }
    group.finish();
}

criterion_group!(benches, throughput);
criterion_main!(benches);
