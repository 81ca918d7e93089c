//! The codec: what is written is read again, foreign bytes are refused, limits hold.

use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::backend::{
    self, Authentication, Column, CopyFormat, NegotiateProtocolVersion, Report, RowDescription,
    TransactionStatus,
};
use crate::error::{Side, What, WireError};
use crate::frontend::{self, Bind, Execute, FunctionCall, Parse, SaslInitialResponse, Target};
use crate::startup::{self, CancelRequest, Packet, StartupMessage};
use crate::values::{Format, Formats, Values};

fn text() -> impl Strategy<Value = Bytes> {
    vec(1_u8..=255, 0..20).prop_map(Bytes::from)
}

fn word() -> impl Strategy<Value = Bytes> {
    vec(1_u8..=255, 1..20).prop_map(Bytes::from)
}

fn data() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

fn format() -> impl Strategy<Value = Format> {
    prop_oneof![Just(Format::Text), Just(Format::Binary)]
}

fn formats() -> impl Strategy<Value = Formats> {
    vec(format(), 0..4).prop_map(|formats| Formats::new(&formats))
}

fn values() -> impl Strategy<Value = Values> {
    vec(option::of(data()), 0..6)
        .prop_map(|values| Values::new(values.iter().map(Option::as_deref)).unwrap())
}

fn target() -> impl Strategy<Value = Target> {
    prop_oneof![text().prop_map(Target::Statement), text().prop_map(Target::Portal)]
}

fn frontend_message() -> impl Strategy<Value = frontend::Message> {
    use frontend::Message as M;
    let bind = (text(), text(), formats(), values(), formats()).prop_map(
        |(portal, statement, parameter_formats, parameters, result_formats)| {
            M::Bind(Bind { portal, statement, parameter_formats, parameters, result_formats })
        },
    );
    let call = (any::<u32>(), formats(), values(), format()).prop_map(
        |(function, argument_formats, arguments, result_format)| {
            M::FunctionCall(FunctionCall { function, argument_formats, arguments, result_format })
        },
    );
    let parse =
        (text(), text(), vec(any::<u32>(), 0..4)).prop_map(|(statement, sql, parameter_types)| {
            M::Parse(Parse { statement, sql, parameter_types })
        });
    let execute = (text(), any::<i32>())
        .prop_map(|(portal, max_rows)| M::Execute(Execute { portal, max_rows }));
    let empty = prop_oneof![Just(M::CopyDone), Just(M::Flush), Just(M::Sync), Just(M::Terminate)];
    prop_oneof![
        bind,
        call,
        parse,
        execute,
        empty,
        target().prop_map(M::Close),
        target().prop_map(M::Describe),
        data().prop_map(M::CopyData),
        data().prop_map(M::Password),
        text().prop_map(M::CopyFail),
        text().prop_map(M::Query),
    ]
}

fn authentication() -> impl Strategy<Value = Authentication> {
    use Authentication as A;
    prop_oneof![
        prop_oneof![Just(A::Ok), Just(A::KerberosV5), Just(A::CleartextPassword)],
        prop_oneof![Just(A::ScmCredential), Just(A::Gss), Just(A::Sspi)],
        any::<[u8; 4]>().prop_map(|salt| A::Md5Password { salt }),
        vec(word(), 0..3).prop_map(A::Sasl),
        data().prop_map(A::GssContinue),
        data().prop_map(A::SaslContinue),
        data().prop_map(A::SaslFinal),
    ]
}

fn report() -> impl Strategy<Value = Report> {
    vec((1_u8..=255, text()), 0..6).prop_map(|fields| Report { fields })
}

fn column() -> impl Strategy<Value = Column> {
    let numbers = (any::<u32>(), any::<i16>(), any::<u32>(), any::<i16>(), any::<i32>());
    (text(), numbers, format()).prop_map(|(name, numbers, format)| {
        let (table, attribute, type_oid, type_size, type_modifier) = numbers;
        Column { name, table, attribute, type_oid, type_size, type_modifier, format }
    })
}

fn copy_format() -> impl Strategy<Value = CopyFormat> {
    (format(), formats()).prop_map(|(overall, columns)| CopyFormat { overall, columns })
}

fn backend_message() -> impl Strategy<Value = backend::Message> {
    use backend::Message as M;
    let key = (any::<u32>(), vec(any::<u8>(), 4..=256))
        .prop_map(|(process, key)| M::BackendKeyData { process, key: key.into() });
    let notification = (any::<u32>(), text(), text()).prop_map(|(process, channel, payload)| {
        M::NotificationResponse { process, channel, payload }
    });
    let negotiate = (any::<u32>(), vec(text(), 0..3)).prop_map(|(version, unknown)| {
        M::NegotiateProtocolVersion(NegotiateProtocolVersion { version, unknown })
    });
    let empty = prop_oneof![
        prop_oneof![Just(M::BindComplete), Just(M::CloseComplete), Just(M::CopyDone)],
        prop_oneof![Just(M::EmptyQueryResponse), Just(M::NoData), Just(M::ParseComplete)],
        prop_oneof![
            Just(M::PortalSuspended),
            Just(M::ReadyForQuery(TransactionStatus::Idle)),
            Just(M::ReadyForQuery(TransactionStatus::Open)),
            Just(M::ReadyForQuery(TransactionStatus::Failed)),
        ],
    ];
    prop_oneof![
        prop_oneof![key, notification, negotiate, empty],
        authentication().prop_map(M::Authentication),
        text().prop_map(M::CommandComplete),
        copy_format().prop_map(M::CopyBothResponse),
        copy_format().prop_map(M::CopyInResponse),
        copy_format().prop_map(M::CopyOutResponse),
        data().prop_map(M::CopyData),
        values().prop_map(M::DataRow),
        prop_oneof![report().prop_map(M::ErrorResponse), report().prop_map(M::NoticeResponse)],
        option::of(data()).prop_map(M::FunctionCallResponse),
        vec(any::<u32>(), 0..5).prop_map(M::ParameterDescription),
        (text(), text()).prop_map(|(name, value)| M::ParameterStatus { name, value }),
        vec(column(), 0..5).prop_map(|columns| M::RowDescription(RowDescription { columns })),
    ]
}

fn packet() -> impl Strategy<Value = Packet> {
    let parameters = vec((word(), text()), 0..5);
    prop_oneof![
        Just(Packet::SslRequest),
        Just(Packet::GssEncRequest),
        (any::<u32>(), vec(any::<u8>(), 4..=256))
            .prop_map(|(process, key)| Packet::Cancel(CancelRequest { process, key: key.into() })),
        (any::<u16>(), parameters).prop_map(|(minor, parameters)| {
            let version = startup::VERSION_3_0 | u32::from(minor);
            Packet::Startup(StartupMessage { version, parameters })
        }),
    ]
}

fn of_client(bytes: &[u8]) -> Result<Option<frontend::Message>, WireError> {
    let mut buffer = BytesMut::from(bytes);
    let frame = frontend::next(&mut buffer, &frontend::Limits::default())?;
    frame.map(|frame| frontend::Message::decode(&frame)).transpose()
}

fn of_server(bytes: &[u8]) -> Result<Option<backend::Message>, WireError> {
    let mut buffer = BytesMut::from(bytes);
    let frame = backend::next(&mut buffer, &backend::Limits::default())?;
    frame.map(|frame| backend::Message::decode(&frame)).transpose()
}

/// A message of type `tag` with this body.
fn framed(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    [&[tag], length.as_slice(), body].concat()
}

const OF_CLIENT: &[u8] = b"BCdcfDEHFPpQSX";
const OF_SERVER: &[u8] = b"RK23CWdcGHDIEVvnNAtS1sZT";

proptest! {
    #[test]
    fn what_a_client_says_is_read_as_it_was_written(message in frontend_message()) {
        let mut out = BytesMut::from(&b"before"[..]);
        message.encode(&mut out).unwrap();
        let bytes = out.split_off(6);
        prop_assert_eq!(&out[..], b"before");
        let mut buffer = bytes.clone();
        let frame = frontend::next(&mut buffer, &frontend::Limits::default()).unwrap().unwrap();
        prop_assert!(buffer.is_empty());
        prop_assert_eq!(frame.bytes(), &bytes.freeze());
        prop_assert_eq!(frontend::Message::decode(&frame).unwrap(), message);
    }

    #[test]
    fn what_a_server_says_is_read_as_it_was_written(message in backend_message()) {
        let mut bytes = BytesMut::new();
        message.encode(&mut bytes).unwrap();
        let mut buffer = bytes.clone();
        let frame = backend::next(&mut buffer, &backend::Limits::default()).unwrap().unwrap();
        prop_assert!(buffer.is_empty());
        prop_assert_eq!(frame.bytes(), &bytes.freeze());
        prop_assert_eq!(backend::Message::decode(&frame).unwrap(), message);
    }

    #[test]
    fn an_opening_packet_is_read_as_it_was_written(packet in packet()) {
        let mut bytes = BytesMut::new();
        packet.encode(&mut bytes).unwrap();
        prop_assert_eq!(startup::next(&mut bytes, startup::LIMIT).unwrap().unwrap(), packet);
        prop_assert!(bytes.is_empty());
    }

    #[test]
    fn a_message_cut_anywhere_is_waited_for_and_one_byte_less_or_more_is_refused(
        message in backend_message(), other in frontend_message(),
    ) {
        let mut whole = BytesMut::new();
        message.encode(&mut whole).unwrap();
        for cut in 0..whole.len() {
            prop_assert_eq!(of_server(&whole[..cut]).unwrap(), None);
        }
        let open_ended = |tag: u8, body: &[u8]| {
            b"dpK".contains(&tag) || (tag == b'R' && [8, 11, 12].contains(&body[3]))
        };
        for (bytes, client) in [(whole, false), (encoded(&other), true)] {
            let (tag, body) = (bytes[0], &bytes[5..]);
            if open_ended(tag, body) {
                continue;
            }
            let refused = |body: &[u8]| {
                let bytes = framed(tag, body);
                if client { of_client(&bytes).is_err() } else { of_server(&bytes).is_err() }
            };
            prop_assert!(refused(&[body, &[0]].concat()), "trailing byte of {:?}", bytes);
            if let Some((_, less)) = body.split_last() {
                prop_assert!(refused(less), "missing byte of {:?}", bytes);
            }
        }
    }

    #[test]
    fn bytes_that_are_read_are_written_the_same(
        tag in 0..38_usize, body in vec(prop_oneof![Just(0_u8), Just(1), any::<u8>()], 0..60),
    ) {
        if let Some(tag) = OF_CLIENT.get(tag) {
            let bytes = framed(*tag, &body);
            if let Ok(Some(message)) = of_client(&bytes) {
                prop_assert_eq!(encoded(&message), bytes);
            }
        }
        if let Some(tag) = OF_SERVER.get(tag % OF_SERVER.len()) {
            let bytes = framed(*tag, &body);
            if let Ok(Some(message)) = of_server(&bytes) {
                let mut again = BytesMut::new();
                message.encode(&mut again).unwrap();
                prop_assert_eq!(again, bytes);
            }
        }
    }

    #[test]
    fn any_bytes_are_a_message_an_error_or_too_few(bytes in vec(any::<u8>(), 0..80)) {
        let _ = of_client(&bytes);
        let _ = of_server(&bytes);
        let _ = startup::next(&mut BytesMut::from(&bytes[..]), startup::LIMIT);
        let _ = SaslInitialResponse::decode(Bytes::from(bytes.clone()));
        let _ = frontend::password(Bytes::from(bytes));
    }
}

fn encoded(message: &frontend::Message) -> BytesMut {
    let mut out = BytesMut::new();
    message.encode(&mut out).unwrap();
    out
}

#[test]
fn a_length_over_its_limit_is_refused_before_the_body_comes() {
    let limits = frontend::Limits { statement: 10, ..frontend::Limits::default() };
    let mut query = BytesMut::from(&b"Q\0\0\0\x0f"[..]);
    let error = frontend::next(&mut query, &limits).unwrap_err();
    let what = What::Tagged(Side::Frontend, b'Q');
    assert_eq!(error, WireError::TooLong { what, length: 11, limit: 10 });
    // The same length is fine where rows may be long, and nothing is reserved for what may never
    // come.
    let mut row = BytesMut::from(&b"D\x03\0\0\0"[..]);
    assert_eq!(backend::next(&mut row, &backend::Limits::default()), Ok(None));
    assert!(row.capacity() < 100);
    for length in [0, 3, -1, i32::MIN] {
        let bytes = [b"Z".as_slice(), &length.to_be_bytes()].concat();
        let what = What::Tagged(Side::Backend, b'Z');
        assert_eq!(of_server(&bytes), Err(WireError::Length { what, length }));
    }
    let opening =
        |length: i32| startup::next(&mut BytesMut::from(&length.to_be_bytes()[..]), startup::LIMIT);
    assert!(matches!(opening(7), Err(WireError::Length { .. })));
    assert!(matches!(opening(10_005), Err(WireError::TooLong { .. })));
    assert_eq!(opening(10_004), Ok(None));
}

#[test]
fn a_type_of_the_other_side_is_refused_at_its_first_byte() {
    assert_eq!(of_client(b"T"), Err(WireError::UnknownType { side: Side::Frontend, tag: b'T' }));
    assert_eq!(of_server(b"Q"), Err(WireError::UnknownType { side: Side::Backend, tag: b'Q' }));
}

#[test]
fn counts_and_lengths_that_lie_are_refused() {
    let refused = |tag, body: &[u8]| of_server(&framed(tag, body)).unwrap_err();
    let cut = |what, field| WireError::Truncated { what, field };
    // A row of 65,535 values, of which none is there; a value longer than the message; a negative
    // length that is not NULL.
    assert_eq!(refused(b'D', &[255, 255]), cut("DataRow", "values"));
    assert_eq!(refused(b'D', &[0, 1, 0, 0, 0, 9, 1]), cut("DataRow", "values"));
    let value = WireError::Value { what: "DataRow", field: "values", value: -2 };
    assert_eq!(refused(b'D', &[0, 1, 255, 255, 255, 254]), value);
    assert_eq!(refused(b'T', &[255, 255]), cut("RowDescription", "columns"));
    assert_eq!(refused(b't', &[255, 255]), cut("ParameterDescription", "types"));
    assert!(matches!(refused(b'v', &[0, 3, 0, 0, 255, 0, 0, 0]), WireError::Value { .. }));
    assert!(matches!(refused(b'Z', b"X"), WireError::Value { .. }));
    assert!(matches!(refused(b'K', &[0; 264]), WireError::Value { .. }));
    assert!(matches!(refused(b'E', &b"M\0".repeat(70)), WireError::Value { .. }));
    let bind = of_client(&framed(b'B', b"\0\0\0\x01\0\x02\0\0\0\0")).unwrap_err();
    let field = "parameter_formats";
    assert_eq!(bind, WireError::Value { what: "Bind", field, value: 2 });
    // A zero byte inside of a text is its end, and the rest does not belong there.
    let query = of_client(&framed(b'Q', b"select 1\0; drop table t\0")).unwrap_err();
    assert_eq!(query, WireError::Trailing { what: "Query", left: 15 });
    let query = of_client(&framed(b'Q', b"select 1")).unwrap_err();
    assert_eq!(query, WireError::Unterminated { what: "Query", field: "text" });
}

#[test]
fn what_cannot_be_said_leaves_the_buffer_as_it_was() {
    let mut out = BytesMut::from(&b"before"[..]);
    let query = frontend::Message::Query(Bytes::from_static(b"a\0b"));
    assert_eq!(query.encode(&mut out), Err(WireError::Nul { what: "Query", field: "text" }));
    let row = (0..65_536).map(|_| None);
    assert!(matches!(backend::encode_row(row, &mut out), Err(WireError::Unencodable { .. })));
    let key = backend::Message::BackendKeyData { process: 1, key: Bytes::from_static(b"abc") };
    assert!(matches!(key.encode(&mut out), Err(WireError::Unencodable { .. })));
    assert_eq!(&out[..], b"before");
}

#[test]
fn a_row_rewritten_is_a_row() {
    let row = Values::new([Some(&b"7"[..]), None, Some(b"4111111111111111")]).unwrap();
    let masked = row.iter().map(|value| value.map(|value| &value[..value.len().min(6)]));
    let mut out = BytesMut::new();
    backend::encode_row(masked, &mut out).unwrap();
    let expected = Values::new([Some(&b"7"[..]), None, Some(b"411111")]).unwrap();
    assert_eq!(of_server(&out), Ok(Some(backend::Message::DataRow(expected))));
    assert_eq!((row.len(), row.iter().count()), (3, 3));
}

#[test]
fn an_unchanged_row_is_the_very_bytes_that_were_read() {
    let mut buffer = BytesMut::from(&framed(b'D', &[0, 1, 0, 0, 0, 1, b'x'])[..]);
    let read = buffer.as_ptr();
    let frame = backend::next(&mut buffer, &backend::Limits::default()).unwrap().unwrap();
    assert_eq!(frame.bytes().as_ptr(), read);
    let backend::Message::DataRow(values) = backend::Message::decode(&frame).unwrap() else {
        panic!("not a row")
    };
    assert_eq!(values.iter().next().unwrap().unwrap().as_ptr(), read.wrapping_add(11));
}

#[test]
fn formats_hold_for_none_all_or_each() {
    let of = |formats: &[Format]| [0, 1, 2].map(|index| Formats::new(formats).of(index));
    let (text, binary) = (Some(Format::Text), Some(Format::Binary));
    assert_eq!(of(&[]), [text; 3]);
    assert_eq!(of(&[Format::Binary]), [binary; 3]);
    assert_eq!(of(&[Format::Text, Format::Binary]), [text, binary, None]);
}

#[test]
fn a_newer_minor_version_and_unknown_options_are_negotiated() {
    let startup = |version, names: &[&'static str]| StartupMessage {
        version,
        parameters: names.iter().map(|name| ((*name).into(), Bytes::new())).collect(),
    };
    assert_eq!(startup(startup::VERSION_3_0, &["user"]).negotiate(startup::VERSION_3_2), None);
    assert_eq!(startup(startup::VERSION_3_2, &["user"]).negotiate(startup::VERSION_3_2), None);
    let newer = startup(startup::VERSION_3_0 | 9_999, &["user", "_pq_.x"]);
    let answer = newer.negotiate(startup::VERSION_3_2).unwrap();
    assert_eq!((answer.version, answer.unknown), (startup::VERSION_3_2, vec!["_pq_.x".into()]));
    let twice = StartupMessage {
        version: startup::VERSION_3_0,
        parameters: vec![("user".into(), "a".into()), ("user".into(), "b".into())],
    };
    assert_eq!(twice.parameter("user").unwrap(), "b");
    assert!(startup::begins_tls(&[0x16, 3, 1]) && !startup::begins_tls(&[0, 0, 0, 8]));
}

#[test]
fn errors_of_the_server_say_whether_the_session_is_over() {
    let denial = crate::denial::Denial {
        code: crate::denial::REFUSED,
        message: "DELETE without WHERE is refused\0by rule x".to_owned(),
        detail: Some("rule shop/no-mass-delete".to_owned()),
        hint: None,
    };
    let report = denial.error();
    assert_eq!((report.code(), report.ends_session()), (&b"42501"[..], false));
    assert_eq!(report.field(b'M').unwrap(), "DELETE without WHERE is refused");
    assert_eq!((report.field(b'D').is_some(), report.field(b'H')), (true, None));
    assert!(denial.fatal().ends_session());
    let mut out = BytesMut::new();
    denial.answer(TransactionStatus::Idle, &mut out).unwrap();
    assert_eq!(out[0], b'E');
    assert_eq!(&out[out.len() - 6..], b"Z\0\0\0\x05I");
}
