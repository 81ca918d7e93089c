//! Tests of the frames: what is written is read the same; foreign bytes are a frame or an error.

use std::time::Duration;

use pcigate_gateway::{Event, Masked, StatementEvent, Step};
use pcigate_policy::{
    document::{
        CertificateRef, ClientTls, Column, ColumnClass, Effect, MaskStyle, Masking, SessionBudget,
        SessionRole, Shape, StatementAction, TlsMode, Token,
    },
    mask::{Cut, Detector, Kind},
};
use proptest::prelude::*;

use super::{told::*, *};

fn word() -> impl Strategy<Value = String> {
    "[a-z0-9é ]{0,40}"
}

fn found() -> impl Strategy<Value = Found> {
    let kind = prop_oneof![
        Just(Kind::Pan),
        Just(Kind::Cvv),
        Just(Kind::Secret),
        any::<u16>().prop_map(Kind::Custom)
    ];
    proptest::collection::vec((kind, any::<u32>()), 0..4)
}

fn told() -> impl Strategy<Value = Told> {
    let statement = (word(), word(), any::<u64>(), found());
    prop_oneof![
        (word(), word(), any::<bool>(), found()).prop_map(|(user, role, client_tls, masked)| {
            let identity = client_tls.then(|| (user.clone(), role.clone()));
            let started =
                Started { user, role, client_tls, identity, masked, ..Started::default() };
            Told::Started(Box::new(started))
        }),
        statement.prop_map(|(command, text, number, masked)| {
            Told::Statement(Box::new(Statement {
                number,
                step: Step::Execute,
                command,
                text: text.clone(),
                text_bytes: number,
                parameters: vec![None, Some(text.clone())],
                effects: vec![Effect::Read, Effect::Unknown],
                tables: vec![text.clone()],
                verdict: StatementAction::Ask,
                rule: Some(text.clone()),
                reason: text,
                request_key: (number % 2 == 0).then_some([7; 32]),
                deciding: Duration::from_nanos(number),
                masked,
            }))
        }),
        (any::<u64>(), any::<u32>(), found()).prop_map(|(number, nanos, masked)| {
            let duration = Duration::from_nanos(nanos.into());
            Told::StatementEnd(End { number, duration, masked, ..End::default() })
        }),
        (any::<bool>(), word(), found()).prop_map(|(from_client, text, masked)| {
            Told::Traffic(Traffic { from_client, text, masked })
        }),
        any::<u64>().prop_map(|limit| Told::Truncated { limit }),
        (word(), any::<u64>(), found()).prop_map(|(why, rows, masked)| {
            Told::Ended(Box::new(Ended { why, rows, masked, ..Ended::default() }))
        }),
    ]
}

fn frame() -> impl Strategy<Value = FromGateway> {
    let session = any::<u64>();
    prop_oneof![
        Just(FromGateway::Ready),
        (session, any::<bool>(), proptest::collection::vec(told(), 0..6))
            .prop_map(|(session, durable, told)| FromGateway::Told { session, durable, told }),
        (any::<u64>(), any::<u32>())
            .prop_map(|(session, dial)| FromGateway::Dial { session, dial }),
        (any::<u64>(), word()).prop_map(|(session, why)| FromGateway::Over { session, why }),
        any::<u64>().prop_map(FromGateway::Here),
        (any::<u64>(), word()).prop_map(|(session, token)| {
            let token = ClientToken::new(Zeroizing::new(token.into_bytes()));
            FromGateway::Review { session, token }
        }),
    ]
}

proptest! {
    #[test]
    fn what_the_gateway_writes_the_agent_reads_the_same(mut sent in frame()) {
        let bytes = sent.encode().unwrap();
        prop_assert_eq!(FromGateway::decode(&bytes).unwrap(), sent);
    }

    #[test]
    fn a_frame_that_is_cut_or_longer_is_none(
        mut sent in frame(),
        at in any::<prop::sample::Index>(),
    ) {
        let mut bytes = sent.encode().unwrap();
        let cut = &bytes[..at.index(bytes.len())];
        prop_assert!(FromGateway::decode(cut).is_err());
        bytes.push(0);
        prop_assert_eq!(FromGateway::decode(&bytes), Err(Malformed::Rest { bytes: 1 }));
    }

    #[test]
    fn foreign_bytes_are_an_error_or_a_frame_that_is_written_the_same(
        mut sent in frame(),
        at in any::<prop::sample::Index>(),
        bits in 1..=255_u8,
    ) {
        let mut bytes = sent.encode().unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= bits;
        if let Ok(mut read) = FromGateway::decode(&bytes) {
            prop_assert_eq!(read.encode().unwrap(), bytes);
        }
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = FromGateway::decode(&bytes);
        let _ = ToGateway::decode(&bytes);
        let _ = Terms::decode(&bytes);
    }
}

#[test]
fn a_list_that_says_it_is_long_takes_no_memory_for_it() {
    let mut frame = FromGateway::Told { session: 1, durable: true, told: Vec::new() };
    let mut bytes = frame.encode().unwrap();
    let length = bytes.len();
    bytes[length - 4..].copy_from_slice(&u32::MAX.to_le_bytes());
    let most = TOLD_MAX;
    let length = usize::try_from(u32::MAX).unwrap();
    assert_eq!(FromGateway::decode(&bytes), Err(Malformed::Long { length, most }));
}

/// Terms with every field.
fn whole() -> Terms {
    let mut terms = Terms::blank();
    terms.authorities = vec![7; 300_000];
    terms.own = Some((vec![9; 300], Zeroizing::new(b"made up as well".to_vec())));
    terms.client_tls = Some((vec![8; 400], Zeroizing::new(b"made up, too".to_vec())));
    terms.jwks = Some(b"{}".to_vec());
    terms.request_secret = Zeroizing::new(vec![9; 32]);
    terms.workload.id = "a uid".to_owned();
    terms.workload.service_account = Some("payments/bot".to_owned());
    terms.client = "redirected from 10.0.0.5:5432".to_owned();
    terms.scope = "7/payments/cards".to_owned();
    terms.target.name.name = "cards".to_owned();
    terms.target.upstream.tls = TlsMode::Require;
    terms.target.upstream.server_name = Some("db.payments".to_owned());
    let luhn = Detector { name: "staff".to_owned(), pattern: "E-[0-9]+".to_owned(), luhn: true };
    terms.target.mask = Masking {
        style: MaskStyle::Last4,
        card_data: true,
        secrets: true,
        fields: vec!["ssn".to_owned()],
        detectors: vec![luhn],
    };
    terms.target.columns =
        vec![Column { table: "cards".into(), column: "pan".into(), class: ColumnClass::Pan }];
    let certificate = CertificateRef::Secret(String::new());
    terms.target.client_tls = Some(ClientTls { certificate, required: true });
    terms.target.token = Some(Token {
        required: false,
        audience: "cards".to_owned(),
        issuer: "https://issuer.example".to_owned(),
        jwks_file: String::new(),
        jwks_secret: None,
        review: true,
    });
    let grants = vec!["reader".to_owned()];
    terms.target.session_role = Some(SessionRole { grants, prefix: "bot_".to_owned() });
    terms.rules = vec![pcigate_policy::document::Statement {
        id: "read".to_owned(),
        action: StatementAction::Allow,
        effects: vec![Effect::Read, Effect::BulkRead],
        tables: vec!["public.*".to_owned()],
        functions: vec!["now".to_owned()],
        columns: vec!["cards.pan".to_owned()],
        shapes: vec![Shape::DoBlock],
        max_rows: Some(500),
        max_bytes: None,
    }];
    terms.databases = vec!["shop".to_owned()];
    terms.limits.traffic = 17;
    terms.limits.idle = Some(Duration::from_millis(1500));
    terms.limits.catalog = Duration::from_secs(7);
    let idle = Some(Duration::from_secs(90));
    terms.budgets = vec![(
        "rule cards".to_owned(),
        SessionBudget {
            max_rows: Some(1),
            max_bytes: Some(2),
            max_statements: None,
            idle,
            max_duration: None,
        },
    )];
    terms
}

#[test]
fn terms_arrive_as_they_were_with_every_field() {
    let mut terms = whole();
    let bytes = terms.encode().unwrap();
    let read = Terms::decode(&bytes).unwrap();
    assert!(read.authorities == terms.authorities);
    assert!(read.client_tls == terms.client_tls && read.jwks == terms.jwks);
    assert!(read.request_secret == terms.request_secret);
    let workload = |of: &Terms| (of.workload.id.clone(), of.workload.service_account.clone());
    assert_eq!(workload(&read), workload(&terms));
    assert_eq!(read.budgets, terms.budgets);
    assert_eq!((&read.client, &read.scope), (&terms.client, &terms.scope));
    assert_eq!((&read.target, &read.rules), (&terms.target, &terms.rules));
    assert_eq!(read.databases, terms.databases);
    assert_eq!(format!("{:?}", read.limits), format!("{:?}", terms.limits));
}

#[test]
fn the_largest_statement_fits_into_a_frame_and_tells_what_was_masked_in_it() {
    let long = |text: &str| Masked::new(text.repeat(20_000).as_bytes(), Cut::Whole);
    let event = Event::Statement(Box::new(StatementEvent {
        number: 1,
        step: Step::Query,
        command: "SELECT",
        text: Masked::new("é4111111111111111 ".repeat(3_000).as_bytes(), Cut::Whole),
        text_bytes: 1,
        parameters: vec![Some(long("é")); 64],
        effects: vec![Effect::Read],
        tables: vec![long("t"); 64],
        verdict: StatementAction::Allow,
        rule: Some(long("r")),
        reason: long("w"),
        request_key: Some([7; 32]),
        deciding: Duration::from_micros(70),
    }));
    let told = Told::of(event);
    let Told::Statement(statement) = &told else { panic!("a statement") };
    assert_eq!(statement.masked, [(Kind::Pan, 3_000)]);
    let mut frame = FromGateway::Told { session: 1, durable: true, told: vec![told] };
    let bytes = frame.encode().unwrap();
    assert_eq!(FromGateway::decode(&bytes).unwrap(), frame);
}

#[test]
fn the_answer_to_a_token_crosses_as_it_was_given_and_no_token_can_be_printed() {
    let known = Some(("system:serviceaccount:a:b".to_owned(), "TokenReview".to_owned()));
    for (identity, why, later) in
        [(known, "", false), (None, "nobody", false), (None, "away", true)]
    {
        let why = why.to_owned();
        let given = (9, identity.clone(), why.clone(), later);
        let mut sent = ToGateway::Reviewed { session: 9, identity, why, later };
        let read = ToGateway::decode(&sent.encode().unwrap()).unwrap();
        let ToGateway::Reviewed { session, identity, why, later } = read else {
            panic!("another frame");
        };
        assert_eq!((session, identity, why, later), given);
    }
    let token = ClientToken::new(Zeroizing::new(b"secret.of.somebody".to_vec()));
    let shown = format!("{:?}", FromGateway::Review { session: 1, token });
    assert!(!shown.contains("secret"), "{shown}");
    let long = ClientToken::new(Zeroizing::new(vec![b'x'; TOKEN_MAX + 1]));
    assert!(FromGateway::Review { session: 1, token: long }.encode().is_err());
}
