//! What the host makes of a process that answers what it likes: the bytes of a guest may have taken it over.

use std::io::Write as _;
use std::os::unix::net::UnixStream;

use super::*;

/// What [`wait`] makes of these bytes, after which the process is gone.
fn heard(claimed: u64, bytes: &[u8]) -> io::Result<Answer> {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let bytes = bytes.to_vec();
    let saying = std::thread::spawn(move || {
        theirs.write_all(&claimed.to_ne_bytes()).unwrap();
        // A host that does not listen so far has closed its end.
        let _ = theirs.write_all(&bytes);
    });
    let answer = wait(&OwnedFd::from(ours));
    saying.join().unwrap();
    answer
}

fn said(answer: &Answer) -> (u64, Vec<u8>) {
    let bytes = rmp_serde::to_vec(answer).unwrap();
    (bytes.len() as u64, bytes)
}

#[test]
fn an_answer_is_heard() {
    let (length, bytes) = said(&Answer::Ready(Some("a guest".to_owned())));
    assert!(matches!(heard(length, &bytes).unwrap(), Answer::Ready(Some(told)) if told == "a guest"));
    let (length, bytes) = said(&Answer::Refused("no such function".to_owned()));
    assert!(matches!(heard(length, &bytes).unwrap(), Answer::Refused(text) if text == "no such function"));
}

#[test]
fn a_process_that_claims_to_have_much_to_say_takes_no_memory_of_the_host() {
    for claimed in [LONGEST_ANSWER as u64 + 1, 1 << 47, u64::MAX] {
        let error = heard(claimed, &[0; 64]).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{claimed}: {error}");
    }
}

#[test]
fn an_answer_that_makes_no_sense_is_an_error() {
    for bytes in [&b""[..], b"\xc1", &[0xff; 100], &[0x91; 10_000]] {
        assert!(heard(bytes.len() as u64, bytes).is_err(), "{bytes:?}");
    }
    let (length, bytes) = said(&Answer::Refused("cut".to_owned()));
    assert_eq!(heard(length, &bytes[..bytes.len() - 1]).err().unwrap().kind(), io::ErrorKind::UnexpectedEof);
}

#[test]
fn a_reason_of_any_length_is_heard() {
    let long = "x".repeat(1 << 20);
    for answer in [Answer::Ready(Some(long.clone())), Answer::Refused(long.clone()), Answer::Failed(Failure::of(long.clone(), long))] {
        let (length, bytes) = said(&answer.fitting());
        heard(length, &bytes).unwrap();
    }
}
