//! Inputs that real containerds wrote to a program in the launcher's place, byte for byte, and
//! malformed ones.

use std::num::NonZeroU32;

use containerd_shim_protos::bootstrap_api::{self, BootstrapParams, BootstrapResult, Extension};
use containerd_shim_protos::protobuf::well_known_types::any::Any as ProtoAny;
use containerd_shim_protos::protobuf::{Message as _, MessageField};

use super::*;
use runtime_options::{Grouping, HandlerOptions, LogLevel, RuntimeOptions};

struct Recorded {
    by: &'static str,
    namespace: &'static str,
    id: &'static str,
    input: &'static [u8],
    expected: StartInput,
}

fn table() -> RuntimeOptions {
    RuntimeOptions {
        handler: HandlerOptions {
            grouping: Grouping::Pod,
            log_level: LogLevel::Debug,
            max_containers: NonZeroU32::new(250),
            ..HandlerOptions::default()
        },
        ..RuntimeOptions::default()
    }
}

fn old(options: Given) -> StartInput {
    StartInput {
        reply: ReplyFormat::Address,
        options,
        socket_folder: None,
    }
}

fn new(options: Given) -> StartInput {
    StartInput {
        reply: ReplyFormat::Bootstrap,
        options,
        socket_folder: Some(PathBuf::from("/run/containerd/s")),
    }
}

#[test]
fn input_of_each_containerd_is_parsed() {
    for Recorded {
        by,
        namespace,
        id,
        input,
        expected,
    } in recorded()
    {
        assert_eq!(
            StartInput::decode(input, namespace, id),
            Ok(expected),
            "{by}"
        );
    }
}

#[test]
fn unknown_extensions_are_ignored_and_bad_options_are_refused() {
    let message = |type_url: &str, value: &[u8]| {
        let any = ProtoAny {
            type_url: type_url.to_owned(),
            value: value.to_vec(),
            ..Default::default()
        };
        let extension = Extension {
            value: MessageField::some(any),
            ..Default::default()
        };
        let params = BootstrapParams {
            instance_id: "c1".to_owned(),
            namespace: "n".to_owned(),
            log_level: bootstrap_api::LogLevel::LOG_LEVEL_DEBUG.into(),
            extensions: vec![extension],
            ..Default::default()
        };
        params.write_to_bytes().unwrap()
    };
    let read = |input: &[u8]| StartInput::decode(input, "n", "c1");
    let plain = StartInput {
        reply: ReplyFormat::Bootstrap,
        options: Given::Nothing,
        socket_folder: None,
    };
    assert_eq!(
        read(&message("containerd.io/nri.v1.PluginConfig", b"whatever")),
        Ok(plain)
    );
    let bad = Message::default().text(3, "Colour = 1").into_bytes();
    assert!(matches!(
        read(&message("runtimeoptions.v1.Options", &bad)),
        Err(StartInputError::Options(_))
    ));
}

#[test]
fn other_messages_are_refused() {
    let params = BootstrapParams {
        instance_id: "other".to_owned(),
        namespace: "n".to_owned(),
        containerd_version: "2.4.2".to_owned(),
        ..Default::default()
    };
    let of_another = params.write_to_bytes().unwrap();
    assert!(matches!(
        StartInput::decode(&of_another, "n", "c1"),
        Err(StartInputError::Unknown { .. })
    ));
    assert!(matches!(
        StartInput::decode(b"hello", "n", "c1"),
        Err(StartInputError::Malformed(_))
    ));
    let number = Message::default().number(1, 5).into_bytes();
    assert!(matches!(
        StartInput::decode(&number, "n", "c1"),
        Err(StartInputError::Unknown { .. })
    ));
    let options = Message::default()
        .text(1, "some.other.Options")
        .into_bytes();
    assert!(matches!(
        StartInput::decode(&options, "n", "c1"),
        Err(StartInputError::Options(OptionsError::UnknownType { .. }))
    ));
}

#[test]
fn reply_has_the_form_that_each_containerd_reads() {
    let address = "unix:///run/containerd/s/x-1";
    assert_eq!(ReplyFormat::Address.encode(address), address.as_bytes());
    let result =
        BootstrapResult::parse_from_bytes(&ReplyFormat::Bootstrap.encode(address)).unwrap();
    let expected = BootstrapResult {
        version: 3,
        address: address.to_owned(),
        protocol: "ttrpc".to_owned(),
        ..Default::default()
    };
    assert_eq!(result, expected);
    // containerd 2.3 and later try this message first, so a plain address must not be one.
    BootstrapResult::parse_from_bytes(address.as_bytes()).unwrap_err();
}

fn recorded() -> Vec<Recorded> {
    let mut recorded = first_versions();
    recorded.extend(second_versions());
    recorded
}

fn first_versions() -> Vec<Recorded> {
    vec![
        Recorded {
            by: "1.6.20, CRI, no options table",
            namespace: "k8s.io",
            id: "33860aa18edc46f3d285fdb6c249e2f173fc70355bb42a282fca1be77397b3a1",
            input: b"",
            expected: old(Given::Nothing),
        },
        Recorded {
            by: "1.6.20, CRI, options table (which it does not pass)",
            namespace: "k8s.io",
            id: "799a739851115af38348637898c6d6d6bbd6e2c9befc0e567b2beae8640c74f5",
            input: b"\n\x19runtimeoptions.v1.Options",
            expected: old(Given::Nothing),
        },
        Recorded {
            by: "1.7.35, CRI, no options table",
            namespace: "k8s.io",
            id: "300bf6c61c3694b330baf6366a57750528271e29fbd95df47a10150c0f91fc1c",
            input: b"",
            expected: old(Given::Nothing),
        },
        Recorded {
            by: "1.7.35, CRI, options table",
            namespace: "k8s.io",
            id: "ef1e18cdce0591a370a4e2159da3da0de751ab9dc92b4a57dbc346d6d25b20c9",
            input: b"\n\x19runtimeoptions.v1.Options\x12R\x1aPSystemdCgroup = false\ngrouping = \
                     \"pod\"\nlog_level = \"debug\"\nmax\
          _containers = 250\n",
            expected: old(Given::Table(table())),
        },
        Recorded {
            by: "1.7.35, ctr",
            namespace: "default",
            id: "c-plain",
            input: b"",
            expected: old(Given::Nothing),
        },
    ]
}

fn second_versions() -> Vec<Recorded> {
    vec![
        Recorded {
            by: "2.1.9, CRI, no options table",
            namespace: "k8s.io",
            id: "3653157532a93e6b24a6468f6e73f8414b2201b7b97f36edabf8fc1ea6e95193",
            input: b"",
            expected: old(Given::Nothing),
        },
        Recorded {
            by: "2.1.9, CRI, options table",
            namespace: "k8s.io",
            id: "431a6ce35996c375d3319e679130f5c1fc80390f28c3966aa30abb6e70e28c84",
            input: b"\n\x19runtimeoptions.v1.Options\x12R\x1aPSystemdCgroup = false\ngrouping = \
                     'pod'\nlog_level = 'debug'\nmax_con\
          tainers = 250\n",
            expected: old(Given::Table(table())),
        },
        Recorded {
            by: "2.4.2, CRI, no options table",
            namespace: "k8s.io",
            id: "f98c8cfd7050a94ef0e45b0e8b809231b4041a97c465833bcd86385d46c49098",
            input: b"\n@f98c8cfd7050a94ef0e45b0e8b809231b4041a97c465833bcd86385d46c49098\x12\x06k8s.io\"\x052.4.2*%/run/containerd/\
          containerd.sock.ttrpc2\x1f/run/containerd/containerd.sock:\x19/usr/local/bin/containerdJ\x11/run/containerd/s",
            expected: new(Given::Nothing),
        },
        Recorded {
            by: "2.4.2, CRI, options table",
            namespace: "k8s.io",
            id: "95e3ca0a81d3e91dc4dbd0154b3d4f2f70eefadc8a8aa4ad4b664a5540bae170",
            input: b"\n@95e3ca0a81d3e91dc4dbd0154b3d4f2f70eefadc8a8aa4ad4b664a5540bae170\x12\x06k8s.io\"\x052.4.2*%/run/containerd/\
          containerd.sock.ttrpc2\x1f/run/containerd/containerd.sock:\x19/usr/local/bin/containerdBq\no\n\x19runtimeoptions\
          .v1.Options\x12R\x1aPSystemdCgroup = false\ngrouping = 'pod'\nlog_level = \
          'debug'\nmax_containers = 250\nJ\x11/r\
          un/containerd/s",
            expected: new(Given::Table(table())),
        },
        Recorded {
            by: "2.4.2, CRI, options table, sandboxer = shim",
            namespace: "k8s.io",
            id: "adf198720f4092f680ebc30463ce7dfb85c68323139f6c0d544600476990c712",
            input: b"\n@adf198720f4092f680ebc30463ce7dfb85c68323139f6c0d544600476990c712\x12\x06k8s.io\"\x052.4.2*%/run/containerd/\
          containerd.sock.ttrpc2\x1f/run/containerd/containerd.sock:\x19/usr/local/bin/containerdB2\n0\n\x19runtimeoptions\
          .v1.Options\x12\x13\x1a\x11grouping = 'pod'\nJ\x11/run/containerd/s",
            expected: new(Given::Table(RuntimeOptions {
                handler: HandlerOptions { grouping: Grouping::Pod, ..HandlerOptions::default() },
                ..RuntimeOptions::default()
            })),
        },
        Recorded {
            by: "2.4.2, ctr",
            namespace: "default",
            id: "c-plain",
            input: b"\n\x07c-plain\x12\x07default\"\x052.4.2*%/run/containerd/containerd.sock.ttrpc2\x1f/run/containerd/containerd.\
          sock:\x19/usr/local/bin/containerdJ\x11/run/containerd/s",
            expected: new(Given::Nothing),
        },
    ]
}
