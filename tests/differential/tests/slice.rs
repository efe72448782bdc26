//! A seeded slice of what the program does by the million.

use std::path::PathBuf;

use bulla_differential::run::{Series, series};

#[test]
fn the_software_processor_does_what_this_one_does() {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_bulla-differential"));
    let summary = series(program, Series { seed: 2026, first: 0, count: 100_000, reports: 5 }).expect("a worker");
    for report in &summary.reports {
        eprintln!("{report}");
    }
    assert_eq!(summary.different, 0);
    assert_eq!(summary.cases, 100_000);
    // The generator does make instructions that do something.
    assert!(summary.through > 40_000, "{summary:?}");
    assert!(summary.void < 200, "{summary:?}");
    for vector in [0, 3, 6, 12, 13, 14, 16, 17, 19] {
        assert!(summary.exceptions[vector] > 0, "no exception {vector}: {summary:?}");
    }
}
