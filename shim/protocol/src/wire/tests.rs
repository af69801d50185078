//! Comparison with the full protobuf library.

use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{Message as _, MessageField};
use containerd_shim_protos::types::introspection::{RuntimeInfo, RuntimeVersion};
use proptest::prelude::*;

use super::*;

#[test]
fn library_reads_what_is_encoded_here() {
    let version = Message::default().text(1, "1.2").text(2, "");
    let bytes = Message::default()
        .text(1, "name")
        .message(2, &version)
        .into_bytes();
    let info = RuntimeInfo::parse_from_bytes(&bytes).unwrap();
    let version = RuntimeVersion {
        version: "1.2".to_owned(),
        ..Default::default()
    };
    assert_eq!(
        info,
        RuntimeInfo {
            name: "name".to_owned(),
            version: MessageField::some(version),
            ..Default::default()
        }
    );
    assert_eq!(info.write_to_bytes().unwrap(), bytes);
}

#[test]
fn truncated_and_other_bytes_are_malformed() {
    for (bytes, at) in [
        (&[0x0a][..], 1),                 // a string without its length
        (&[0x0a, 5, b'x'], 2),            // a string shorter than its length
        (&[0x08, 0x80], 2),               // a number that goes on
        (&[0x08, 0x01, 0x0b], 2),         // a group
        (&[0x02, 0], 0),                  // field 0
        (&[0x0d, 1, 2], 1),               // four bytes, of which two are there
        (&[0xff; 11], 0),                 // a number of more than 64 bits
        (b"unix:///run/containerd/s", 5), // an address
    ] {
        assert_eq!(fields(bytes), Err(Malformed { at }), "{bytes:?}");
    }
}

proptest! {
    #[test]
    fn fields_are_read_as_the_library_wrote_them(type_url in ".*", value: Vec<u8>) {
        let bytes = Any { type_url: type_url.clone(), value: value.clone(),
            ..Default::default() }.write_to_bytes().unwrap();
        let read = fields(&bytes).unwrap();
        let of = |number: u32| read.iter().find(|field| field.number == number).map(|field|
            field.value);
        prop_assert_eq!(of(1).and_then(Value::text).unwrap_or_default(), type_url);
        prop_assert_eq!(of(2).unwrap_or(Value::Bytes(&[])), Value::Bytes(&value));
    }

    #[test]
    fn numbers_are_read_as_they_were_written(field in 1_u32..1 << 29, number: u64) {
        let bytes = Message::default().number(field, number).into_bytes();
        let expected = if number == 0 { vec![] } else { vec![Field { number: field,
            value: Value::Varint(number) }] };
        prop_assert_eq!(fields(&bytes), Ok(expected));
    }

    #[test]
    fn any_bytes_are_parsed_or_malformed(bytes: Vec<u8>) {
        if let Err(Malformed { at }) = fields(&bytes) {
            prop_assert!(at <= bytes.len());
        }
    }
}
