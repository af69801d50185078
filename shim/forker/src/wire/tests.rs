//! Tests of messages: values arrive as they were sent; anything else is an error.

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

/// A message that need not follow the rules: a header, and what follows.
fn raw(bytes: u64, descriptors: u64, rest: &[u8]) -> UnixStream {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.write_all(&bytes.to_ne_bytes()).unwrap();
    theirs.write_all(&descriptors.to_ne_bytes()).unwrap();
    theirs.write_all(rest).unwrap();
    ours
}

#[test]
fn value_arrives_with_its_descriptors_in_their_places() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let parcel = Parcel {
        name: "n".repeat(300_000),
        files: vec![Some(file("a")), None, Some(file("b"))],
        last: file("c"),
    };
    let sending = std::thread::spawn(move || Message::of(&parcel).unwrap().send(&ours).unwrap());
    let arrived: Parcel = Message::receive(&theirs, MAX_REQUEST)
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
    let count = MAX_PACKET_DESCRIPTORS + 7;
    let fds = (0..count)
        .map(|number| file(&number.to_string()).into_inner())
        .collect();
    let sending = std::thread::spawn(move || Message::of_descriptors(fds).send(&ours).unwrap());
    let arrived = Message::receive(&theirs, MAX_REPLY)
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
fn message_that_announces_too_many_bytes_is_refused_before_memory_is_allocated() {
    for claimed in [MAX_REPLY as u64 + 1, 1 << 40, u64::MAX] {
        let error = Message::receive(raw(claimed, 0, b""), MAX_REPLY)
            .err()
            .unwrap();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
        assert!(error.to_string().contains(&claimed.to_string()), "{error}");
    }
    let whole = vec![0; MAX_REPLY];
    let sent = raw_in_background(MAX_REPLY as u64, whole);
    Message::receive(sent, MAX_REPLY).unwrap();
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
fn message_whose_descriptors_are_missing_is_an_error() {
    // The byte of a packet that carries none.
    let error = Message::receive(raw(1, 1, b"\0x"), MAX_REPLY)
        .err()
        .unwrap();
    assert!(
        error.to_string().contains("descriptors are missing"),
        "{error}"
    );
    // A value that refers to one that was not sent.
    let (ours, theirs) = UnixStream::pair().unwrap();
    Message {
        bytes: rmp_serde::to_vec(&7_u64).unwrap(),
        fds: vec![file("a").into_inner()],
    }
    .send(&ours)
    .unwrap();
    let error = Message::receive(&theirs, MAX_REPLY)
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
fn value_cannot_take_one_descriptor_twice() {
    let message = Message {
        bytes: rmp_serde::to_vec(&(0_u64, 0_u64)).unwrap(),
        fds: vec![file("a").into_inner()],
    };
    message.value::<(WireFd, WireFd)>().unwrap_err();
}

#[test]
fn bytes_that_are_not_a_value_are_an_error() {
    for bytes in [
        &b"\xc1"[..],
        b"\xdf\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        &[0x91; 5000],
    ] {
        let sent = raw(bytes.len() as u64, 0, bytes);
        Message::receive(sent, MAX_REPLY)
            .unwrap()
            .value::<Result<(u32, WireFd), crate::Failure>>()
            .unwrap_err();
    }
}

#[test]
fn socket_that_is_closed_in_the_middle_of_a_message_is_an_end() {
    for (header, rest) in [((4, 0), &b"abc"[..]), ((4, 1), b"")] {
        let error = Message::receive(raw(header.0, header.1, rest), MAX_REPLY)
            .err()
            .unwrap();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{header:?}");
    }
    let (ours, theirs) = UnixStream::pair().unwrap();
    drop(ours);
    assert_eq!(
        Message::receive(&theirs, MAX_REPLY).err().unwrap().kind(),
        io::ErrorKind::UnexpectedEof
    );
}

#[test]
fn text_of_any_length_is_cut_to_fit_into_a_reply() {
    let text = truncated("é".repeat(1 << 20));
    assert!(
        text.len() <= MAX_TEXT && text.ends_with('é'),
        "{} bytes",
        text.len()
    );
    assert_eq!(truncated("short".to_owned()), "short");
}

#[test]
fn message_crosses_a_socket_of_packets() {
    let (ours, theirs) = rustix::net::socketpair(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::SEQPACKET,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )
    .unwrap();
    let sent = ("a task".to_owned(), file("a"), file("b"));
    Message::of(&sent).unwrap().send(&ours).unwrap();
    let (task, first, second): (String, WireFd, WireFd) = Message::receive(&theirs, MAX_REQUEST)
        .unwrap()
        .value()
        .unwrap();
    assert_eq!(
        (task, text(first), text(second)),
        ("a task".into(), "a".into(), "b".into())
    );
    drop(ours);
    let error = Message::receive(&theirs, MAX_REQUEST).err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}

#[test]
fn socket_is_usable_after_a_descriptor_was_missing() {
    // A packet that carries none, then another message.
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut raw = &ours;
    raw.write_all(&1_u64.to_ne_bytes()).unwrap();
    raw.write_all(&1_u64.to_ne_bytes()).unwrap();
    raw.write_all(b"\0\x07").unwrap();
    Message::of(&8_u32).unwrap().send(&ours).unwrap();
    let (number, descriptors) = Message::receive_available(&theirs, MAX_REPLY)
        .unwrap()
        .parts::<u32>()
        .unwrap();
    assert_eq!((number, descriptors.len()), (7, 0));
    let next = Message::receive(&theirs, MAX_REPLY).unwrap();
    assert_eq!(next.value::<u32>().unwrap(), 8);
}
