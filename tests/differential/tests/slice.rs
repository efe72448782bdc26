//! Generated instructions on both processors: a seeded slice always, ten million in the slow suite (`./x slow`).

use std::path::Path;

use bulla_differential::run::{Series, Summary, parallel};

fn run(series: Series) -> Summary {
    let program = Path::new(env!("CARGO_BIN_EXE_bulla-differential"));
    let summary = parallel(program, series, 2).expect("a worker");
    for report in &summary.reports {
        eprintln!("{report}");
    }
    let Summary { cases, different, void, through, .. } = summary;
    assert_eq!((cases, different), (series.count, 0), "cargo run -p bulla-differential -- replay SEED INDEX");
    // The generator does make instructions that do something, and faults of all kinds that a program can cause.
    assert!(through > cases / 2 && void < cases / 50, "{summary:?}");
    for vector in [0, 1, 3, 6, 12, 13, 14, 16, 17, 19] {
        assert!(summary.exceptions[vector] > 0, "no exception {vector}: {summary:?}");
    }
    summary
}

#[test]
fn a_slice_of_generated_instructions_does_the_same_on_both() {
    run(Series { seed: 2026, first: 0, count: 300_000, reports: 5 });
}

#[test]
#[ignore = "slow: minutes; part of ./x slow"]
fn ten_million_generated_instructions_do_the_same_on_both() {
    run(Series { seed: 7, first: 0, count: 10_000_000, reports: 20 });
}
