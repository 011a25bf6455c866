//! The committed corpora, and some thousand inputs made from them, are read without a panic.

use inputs::{TARGETS, corpus, mutate, named};

#[test]
fn every_target_reads_its_corpus_and_what_is_made_of_it() {
    const SEEDS: u64 = 3_000;
    for target in &TARGETS {
        let corpus = corpus(target.name);
        assert!(!corpus.is_empty(), "{} has no corpus", target.name);
        for input in &corpus {
            (target.read)(input);
        }
        for seed in 0..SEEDS {
            let input = mutate::input(&corpus, seed);
            let read = std::panic::catch_unwind(|| (target.read)(&input));
            assert!(read.is_ok(), "{}: seed {seed}", target.name);
        }
    }
}

#[test]
fn every_target_has_its_fuzz_target() {
    let folder = inputs::corpora().join("../fuzz_targets");
    for target in &TARGETS {
        let path = folder.join(format!("{}.rs", target.name));
        let text = std::fs::read_to_string(&path).expect("a fuzz target of its name");
        assert!(text.contains(&format!("\"{}\"", target.name)), "{text}");
        assert_eq!(named(target.name).name, target.name);
    }
}
