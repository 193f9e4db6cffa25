//! Every body on its seeds, and on mutations of them: an ordinary test, so that nothing is found by the fuzzer alone.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program")]

use std::{fs, path::Path};

use pawl_fuzz_bodies::{key, policy, reply, request, review};
use proptest::{
    prelude::*,
    sample::Index,
    test_runner::{Config, TestRunner},
};

/// Mutations of each target's seeds.
const CASES: u32 = 3_000;

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../seeds")
        .join(target);
    let files =
        fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// One thing that is done to an input.
#[derive(Clone, Debug)]
enum Change {
    Set(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    Repeat(Index, usize, usize),
    Cut(Index),
    /// The end of another seed.
    Splice(Index, Index, Index),
}

fn change() -> impl Strategy<Value = Change> {
    let words = prop::sample::select(vec![
        "\r\n",
        "\n",
        "\0",
        "%",
        "*",
        "{",
        "}",
        "[",
        "]",
        "\"",
        ":",
        ",",
        " ",
        "-",
        "0",
        "1",
        "-1",
        "~",
        "null",
        "true",
        "\u{feff}",
        "ä",
        "18446744073709551616",
        "1e999",
        "$-1\r\n",
        "..",
        "/",
        "\\ud800",
    ]);
    let piece = prop_oneof![
        3 => words.prop_map(|word| word.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 1..8),
    ];
    let at = any::<Index>;
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        (at(), piece).prop_map(|(at, piece)| Change::Insert(at, piece)),
        (at(), 1_usize..16).prop_map(|(at, length)| Change::Remove(at, length)),
        (at(), 1_usize..64, 1_usize..40)
            .prop_map(|(at, length, times)| Change::Repeat(at, length, times)),
        at().prop_map(Change::Cut),
        (at(), at(), at()).prop_map(|(at, seed, from)| Change::Splice(at, seed, from)),
    ]
}

fn changed(mut input: Vec<u8>, change: &Change, seeds: &[Vec<u8>]) -> Vec<u8> {
    let place = |at: &Index, input: &[u8]| at.index(input.len() + 1);
    match change {
        Change::Set(at, byte) => {
            let at = place(at, &input);
            if let Some(there) = input.get_mut(at) {
                *there = *byte;
            }
        }
        Change::Insert(at, piece) => {
            let at = place(at, &input);
            input.splice(at..at, piece.iter().copied());
        }
        Change::Remove(at, length) => {
            let at = place(at, &input);
            input.drain(at..input.len().min(at + length));
        }
        Change::Repeat(at, length, times) => {
            let at = place(at, &input);
            let end = input.len().min(at + length);
            let piece = input[at..end].repeat(*times);
            input.splice(at..at, piece);
        }
        Change::Cut(at) => input.truncate(place(at, &input)),
        Change::Splice(at, seed, from) => {
            let other = &seeds[seed.index(seeds.len())];
            input.truncate(place(at, &input));
            input.extend_from_slice(&other[place(from, other)..]);
        }
    }
    input
}

fn run(target: &str, body: fn(&[u8])) {
    let seeds = seeds(target);
    assert!(seeds.len() >= 5, "{target} has seeds");
    for seed in &seeds {
        body(seed);
    }
    let config = Config {
        cases: CASES,
        failure_persistence: None,
        ..Config::default()
    };
    let mutated =
        (any::<Index>(), prop::collection::vec(change(), 1..6)).prop_map(|(seed, changes)| {
            let first = seeds[seed.index(seeds.len())].clone();
            changes
                .iter()
                .fold(first, |input, change| changed(input, change, &seeds))
        });
    let result = TestRunner::new(config).run(&mutated, |input| {
        body(&input);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{target}: {error}");
    }
}

#[test]
fn requests() {
    run("request", request);
}

#[test]
fn keys_and_patterns() {
    run("key", key);
}

#[test]
fn policies() {
    run("policy", policy);
}

#[test]
fn reviews() {
    run("review", review);
}

#[test]
fn replies() {
    run("reply", reply);
}
