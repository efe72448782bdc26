//! What differs between the measured events and the expected ones, PCR by PCR.
//!
//! The order of events within a PCR is covered by its value; the order between PCRs is covered by nothing, and is
//! not compared.

use std::collections::BTreeSet;

use bulla_tpm_types::eventlog::{ev, startup_locality_event};

use super::verdict::{Difference, Kind};
use crate::bank::{Bank, Digests};
use crate::eventlog::{Event, describe, type_name};
use crate::expected::{Expected, ExpectedEvent};

/// Largest alignment table, in cells. Real PCRs differ in a few events; where a log differs in thousands, pairing
/// them up one by one says as much and cannot be made slow by whoever wrote the log.
const MAX_CELLS: usize = 1 << 20;

/// The bank whose digests a difference shows, unless only another one differs.
const SHOWN: Bank = Bank::Sha256;

pub(super) fn compare(found: &[Event], expected: &Expected) -> Vec<Difference> {
    let mut differences = compare_no_action(found, expected);
    let found: Vec<&Event> = found.iter().filter(|e| e.extends()).collect();
    let pcrs: BTreeSet<u32> = found.iter().map(|e| e.pcr).chain(expected.events.iter().map(|e| e.pcr)).collect();
    for pcr in pcrs {
        let found: Vec<&Event> = found.iter().copied().filter(|e| e.pcr == pcr).collect();
        let expected: Vec<&ExpectedEvent> = expected.events.iter().filter(|e| e.pcr == pcr).collect();
        compare_pcr(&found, &expected, &mut differences);
    }
    differences
}

/// EV_NO_ACTION events extend nothing, so that only this comparison notices a change in them. The one that is
/// expected tells the startup locality, unless that is 0.
fn compare_no_action(found: &[Event], expected: &Expected) -> Vec<Difference> {
    let mut differences = Vec::new();
    let mut wanted = (expected.startup_locality != 0).then(|| ExpectedEvent {
        pcr: 0,
        event_type: ev::NO_ACTION,
        name: "startup locality".to_owned(),
        digests: Digests::new(),
        data: startup_locality_event(expected.startup_locality).to_vec(),
    });
    for f in found.iter().filter(|f| !f.extends()) {
        let zero = f.digests.values().flatten().all(|&byte| byte == 0);
        if wanted.take_if(|w| zero && f.pcr == w.pcr && f.data == w.data).is_none() {
            differences.push(difference(Kind::Unexpected, Some(f), None));
        }
    }
    differences.extend(wanted.map(|w| difference(Kind::Missing, None, Some(&w))));
    differences
}

fn compare_pcr(found: &[&Event], expected: &[&ExpectedEvent], out: &mut Vec<Difference>) {
    let same = |(f, e): &(&&Event, &&ExpectedEvent)| same_digests(f, e);
    let head = found.iter().zip(expected).take_while(same).count();
    let (same_found, found) = found.split_at(head);
    let (same_expected, expected) = expected.split_at(head);
    let tail = found.iter().rev().zip(expected.iter().rev()).take_while(same).count();
    let (found, found_tail) = found.split_at(found.len() - tail);
    let (expected, expected_tail) = expected.split_at(expected.len() - tail);

    data_differences(same_found, same_expected, out);
    if is_permutation(found, expected) {
        out.extend(reordered(found, expected));
    } else {
        align(found, expected, out);
    }
    data_differences(found_tail, expected_tail, out);
}

/// Whether the digests agree in every bank that the log has. A log may have fewer banks than the expected values.
fn same_digests(found: &Event, expected: &ExpectedEvent) -> bool {
    !found.digests.is_empty() && found.digests.iter().all(|(bank, digest)| expected.digests.get(bank) == Some(digest))
}

fn data_differences(found: &[&Event], expected: &[&ExpectedEvent], out: &mut Vec<Difference>) {
    for (f, e) in found.iter().zip(expected) {
        if f.event_type != e.event_type || f.data != e.data {
            out.push(Difference {
                pcr: f.pcr,
                bank: SHOWN,
                kind: Kind::DataDiffers,
                event_index: Some(f.index),
                event: e.name.clone(),
                described: described(e),
                expected: Some(shown_data(e.event_type, &e.data)),
                found: Some(shown_data(f.event_type, &f.data)),
            });
        }
    }
}

/// Type and data for a report: data in hex, shortened.
fn shown_data(event_type: u32, data: &[u8]) -> String {
    const SHOWN: usize = 256;
    let more = if data.len() > SHOWN { "…" } else { "" };
    format!("{} {}{more}", type_name(event_type), hex::encode(data.get(..SHOWN).unwrap_or(data)))
}

fn is_permutation(found: &[&Event], expected: &[&ExpectedEvent]) -> bool {
    // Sorting by the digests of the log's banks, so that both sides are compared by the same ones.
    let Some(banks) = found.first().map(|f| f.digests.keys().copied().collect::<Vec<Bank>>()) else {
        return false;
    };
    let key = |digests: &Digests| banks.iter().map(|bank| digests.get(bank).cloned()).collect::<Vec<_>>();
    let mut a: Vec<_> = found.iter().map(|f| key(&f.digests)).collect();
    let mut b: Vec<_> = expected.iter().map(|e| key(&e.digests)).collect();
    a.sort();
    b.sort();
    a == b
}

fn reordered<'a>(found: &'a [&'a Event], expected: &'a [&'a ExpectedEvent]) -> impl Iterator<Item = Difference> + 'a {
    found.iter().zip(expected).filter(|(f, e)| !same_digests(f, e)).map(|(f, e)| {
        // The event that came here is expected too, elsewhere: its own name says more than that of its place.
        let name = expected.iter().find(|e| same_digests(f, e)).map_or_else(|| f.describe(), |e| e.name.clone());
        Difference { event: name, described: f.describe(), ..difference(Kind::Reordered, Some(f), Some(e)) }
    })
}

/// Longest common subsequence; what is on one side only is paired up run by run.
fn align(found: &[&Event], expected: &[&ExpectedEvent], out: &mut Vec<Difference>) {
    let (rows, columns) = (found.len(), expected.len());
    if rows.saturating_mul(columns) > MAX_CELLS {
        return pair_up(found, expected, out);
    }
    // length[i][j]: longest common subsequence of found[i..] and expected[j..].
    let mut length = vec![vec![0u32; columns + 1]; rows + 1];
    let cell = |table: &[Vec<u32>], i: usize, j: usize| table.get(i).and_then(|row| row.get(j)).copied().unwrap_or(0);
    for (i, f) in found.iter().enumerate().rev() {
        for (j, e) in expected.iter().enumerate().rev() {
            let best = if same_digests(f, e) {
                cell(&length, i + 1, j + 1) + 1
            } else {
                cell(&length, i + 1, j).max(cell(&length, i, j + 1))
            };
            if let Some(place) = length.get_mut(i).and_then(|row| row.get_mut(j)) {
                *place = best;
            }
        }
    }
    let (mut i, mut j) = (0, 0);
    let (mut only_found, mut only_expected) = (Vec::new(), Vec::new());
    loop {
        match (found.get(i), expected.get(j)) {
            (Some(f), Some(e)) if same_digests(f, e) => {
                pair_up(&std::mem::take(&mut only_found), &std::mem::take(&mut only_expected), out);
                data_differences(&[f], &[e], out);
                i += 1;
                j += 1;
            }
            (Some(f), e) if e.is_none() || cell(&length, i + 1, j) >= cell(&length, i, j + 1) => {
                only_found.push(*f);
                i += 1;
            }
            (_, Some(e)) => {
                only_expected.push(*e);
                j += 1;
            }
            (_, None) => break,
        }
    }
    pair_up(&only_found, &only_expected, out);
}

/// Pairs events that stand at one place of the order: first those that call themselves the same, then the rest.
fn pair_up(found: &[&Event], expected: &[&ExpectedEvent], out: &mut Vec<Difference>) {
    let mut left: Vec<&Event> = found.to_vec();
    let mut unpaired = Vec::new();
    for e in expected {
        match left.iter().position(|f| f.event_type == e.event_type && f.data == e.data) {
            Some(at) => out.push(difference(Kind::Changed, Some(left.remove(at)), Some(e))),
            None => unpaired.push(*e),
        }
    }
    let mut left = left.into_iter();
    for e in unpaired {
        let f = left.next();
        let kind = if f.is_some() { Kind::Changed } else { Kind::Missing };
        out.push(difference(kind, f, Some(e)));
    }
    out.extend(left.map(|f| difference(Kind::Unexpected, Some(f), None)));
}

/// What an event is, by type and data.
fn described(e: &ExpectedEvent) -> String {
    describe(e.event_type, &e.data)
}

fn difference(kind: Kind, found: Option<&Event>, expected: Option<&ExpectedEvent>) -> Difference {
    let of = |digests: Option<&Digests>, bank| digests.and_then(|d| d.get(&bank).cloned());
    let (f, e) = (found.map(|f| &f.digests), expected.map(|e| &e.digests));
    // Show a bank that differs: someone may have edited only one.
    let differs = |bank: &Bank| of(f, *bank).is_some() && of(f, *bank) != of(e, *bank);
    let bank = std::iter::once(SHOWN).chain(Bank::ALL).find(differs).unwrap_or(SHOWN);
    Difference {
        pcr: found.map(|f| f.pcr).or(expected.map(|e| e.pcr)).unwrap_or_default(),
        bank,
        kind,
        event_index: found.map(|f| f.index),
        event: expected.map(|e| e.name.clone()).or(found.map(Event::describe)).unwrap_or_default(),
        described: expected.map(described).or(found.map(Event::describe)).unwrap_or_default(),
        expected: of(e, bank).map(hex::encode),
        found: of(f, bank).map(hex::encode),
    }
}
