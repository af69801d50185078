//! Counts the words of a text file, writes the whole table to a second file and prints the most
//! frequent ones.
//!
//! It uses only the standard library. In the example's pod the text is a ConfigMap, and the table
//! is written to an emptyDir.

use std::collections::BTreeMap;
use std::error::Error;
use std::process::ExitCode;
use std::{env, fs};

/// Number of words that are printed.
const PRINTED_WORDS: usize = 3;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [text, table] = arguments.as_slice() else {
        eprintln!("usage: word-count TEXT TABLE");
        return ExitCode::from(2);
    };
    match run(text, table) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("word-count: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(text: &str, table: &str) -> Result<(), Box<dyn Error>> {
    let content = fs::read_to_string(text).map_err(|error| format!("read {text}: {error}"))?;
    let counted = count(&content);
    let lines: String = counted.iter().map(|(word, times)| format!("{times}\t{word}\n")).collect();
    fs::write(table, &lines).map_err(|error| format!("write {table}: {error}"))?;
    let written = fs::metadata(table).map_err(|error| format!("look at {table}: {error}"))?.len();

    let total: usize = counted.iter().map(|(_, times)| times).sum();
    println!("{total} words, {} different, table of {written} bytes", counted.len());
    for (word, times) in counted.iter().take(PRINTED_WORDS) {
        println!("{times} {word}");
    }
    Ok(())
}

/// Counts the words of `text` in lower case: the most frequent first, words of equal count in
/// alphabetical order.
fn count(text: &str) -> Vec<(String, usize)> {
    let mut counts = BTreeMap::<String, usize>::new();
    for word in text.split(|letter: char| !letter.is_alphanumeric()).filter(|word|
        !word.is_empty()) {
        *counts.entry(word.to_lowercase()).or_default() += 1;
    }
    let mut counted: Vec<_> = counts.into_iter().collect();
    // The sort is stable, so it keeps the alphabetical order of the map.
    counted.sort_by_key(|(_, times)| std::cmp::Reverse(*times));
    counted
}
