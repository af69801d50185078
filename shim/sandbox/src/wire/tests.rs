//! What arrives is what was sent; what is no message, or claims to be too long for one, is an
//! error.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::net::UnixStream;

use super::*;

#[derive(Debug, Serialize, Deserialize)]
struct Parcel {
    name: String,
    files: Vec<Option<WireFd>>,
    last: WireFd,
}

/// A file that holds `text` and nothing else.
fn file(text: &str) -> WireFd {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    WireFd::new(file)
}

fn text(file: WireFd) -> String {
    let mut file = File::from(file.into_inner());
    let mut text = String::new();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.read_to_string(&mut text).unwrap();
    text
}

/// A message as somebody writes it who need not keep to the rules: a header, and what follows.
fn raw(bytes: u64, descriptors: u64, rest: &[u8]) -> UnixStream {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.write_all(&bytes.to_ne_bytes()).unwrap();
    theirs.write_all(&descriptors.to_ne_bytes()).unwrap();
    theirs.write_all(rest).unwrap();
    ours
}

#[test]
fn a_value_arrives_with_its_descriptors_each_in_its_place() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let parcel = Parcel {
        name: "n".repeat(300_000),
        files: vec![Some(file("a")), None, Some(file("b"))],
        last: file("c"),
    };
    let sending = std::thread::spawn(move || Message::of(&parcel).unwrap().send(&ours).unwrap());
    let arrived: Parcel = Message::receive(&theirs, LONGEST_ORDERS)
        .unwrap()
        .value()
        .unwrap();
    sending.join().unwrap();
    assert_eq!(arrived.name.len(), 300_000);
    let mut files = arrived.files.into_iter().map(|file| file.map(text));
    assert_eq!(
        (files.next(), files.next(), files.next()),
        (
            Some(Some("a".to_owned())),
            Some(None),
            Some(Some("b".to_owned()))
        )
    );
    assert_eq!(text(arrived.last), "c");
}

#[test]
fn more_descriptors_than_a_packet_carries_arrive_in_order() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let count = PACKET + 7;
    let fds = (0..count)
        .map(|number| file(&number.to_string()).into_inner())
        .collect();
    let sending = std::thread::spawn(move || Message::of_descriptors(fds).send(&ours).unwrap());
    let arrived = Message::receive(&theirs, LONGEST_ANSWER)
        .unwrap()
        .into_descriptors();
    sending.join().unwrap();
    let texts: Vec<String> = arrived
        .into_iter()
        .map(|fd| text(WireFd::new(fd)))
        .collect();
    assert_eq!(
        texts,
        (0..count)
            .map(|number| number.to_string())
            .collect::<Vec<_>>()
    );
}

#[test]
fn no_room_is_made_for_what_is_only_claimed() {
    for claimed in [LONGEST_ANSWER as u64 + 1, 1 << 40, u64::MAX] {
        let error = Message::receive(raw(claimed, 0, b""), LONGEST_ANSWER)
            .err()
            .unwrap();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
        assert!(error.to_string().contains(&claimed.to_string()), "{error}");
    }
    let whole = vec![0; LONGEST_ANSWER];
    let sent = raw_in_background(LONGEST_ANSWER as u64, whole);
    Message::receive(sent, LONGEST_ANSWER).unwrap();
}

/// As [`raw`], for more than a socket takes at once.
fn raw_in_background(bytes: u64, rest: Vec<u8>) -> UnixStream {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    std::thread::spawn(move || {
        theirs.write_all(&bytes.to_ne_bytes()).unwrap();
        theirs.write_all(&0_u64.to_ne_bytes()).unwrap();
        theirs.write_all(&rest).unwrap();
    });
    ours
}

#[test]
fn descriptors_that_did_not_come_along_are_missed() {
    // The byte of a packet that carries none.
    let error = Message::receive(raw(1, 1, b"\0x"), LONGEST_ANSWER)
        .err()
        .unwrap();
    assert!(
        error.to_string().contains("descriptors are missing"),
        "{error}"
    );
    // A value that refers to one that nobody sent.
    let (ours, theirs) = UnixStream::pair().unwrap();
    Message {
        bytes: rmp_serde::to_vec(&7_u64).unwrap(),
        fds: vec![file("a").into_inner()],
    }
    .send(&ours)
    .unwrap();
    let error = Message::receive(&theirs, LONGEST_ANSWER)
        .unwrap()
        .value::<WireFd>()
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("descriptor 7 did not come along"),
        "{error}"
    );
}

#[test]
fn a_descriptor_is_not_had_twice() {
    let message = Message {
        bytes: rmp_serde::to_vec(&(0_u64, 0_u64)).unwrap(),
        fds: vec![file("a").into_inner()],
    };
    message.value::<(WireFd, WireFd)>().unwrap_err();
}

#[test]
fn nonsense_is_an_error_and_never_a_value() {
    for bytes in [
        &b"\xc1"[..],
        b"\xdf\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        &[0x91; 5000],
    ] {
        let sent = raw(bytes.len() as u64, 0, bytes);
        Message::receive(sent, LONGEST_ANSWER)
            .unwrap()
            .value::<Result<(u32, WireFd), crate::Failure>>()
            .unwrap_err();
    }
}

#[test]
fn an_end_in_the_middle_is_told_from_a_message() {
    for (header, rest) in [((4, 0), &b"abc"[..]), ((4, 1), b"")] {
        let error = Message::receive(raw(header.0, header.1, rest), LONGEST_ANSWER)
            .err()
            .unwrap();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{header:?}");
    }
    let (ours, theirs) = UnixStream::pair().unwrap();
    drop(ours);
    assert_eq!(
        Message::receive(&theirs, LONGEST_ANSWER)
            .err()
            .unwrap()
            .kind(),
        io::ErrorKind::UnexpectedEof
    );
}

#[test]
fn a_text_of_any_length_fits_into_an_answer() {
    let text = fitting("é".repeat(1 << 20));
    assert!(
        text.len() <= LONGEST_TEXT && text.ends_with('é'),
        "{} bytes",
        text.len()
    );
    assert_eq!(fitting("short".to_owned()), "short");
}
