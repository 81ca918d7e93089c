//! Tests of masking: published test numbers in many spellings, and properties over any bytes.

use proptest::prelude::*;

use super::*;

const NUMBERS: [&str; 24] = [
    "4111111111111111",
    "4012888888881881",
    "4222222222222",
    "5555555555554444",
    "5105105105105100",
    "2223003122003222",
    "2720992593319364",
    "378282246310005",
    "371449635398431",
    "378734493671000",
    "6011111111111117",
    "6011000990139424",
    "30569309025904",
    "38520000023237",
    "36227206271667",
    "3530111333300000",
    "3566002020360505",
    "6200000000000005",
    "6205500000000000004",
    "6759649826438453",
    "6799990100000000019",
    "5019717010103742",
    "6362970000457013",
    "2201382000000013",
];

fn whole(text: &str) -> String {
    Masked::new(text.as_bytes(), Cut::Whole).into_string()
}

fn cut(text: &str) -> String {
    Masked::new(text.as_bytes(), Cut::End).into_string()
}

fn found(text: &str) -> Vec<(usize, usize, String)> {
    let masked = Masked::new(text.as_bytes(), Cut::Whole);
    masked.findings().iter().map(|one| (one.start, one.end, one.kind.to_string())).collect()
}

/// `sizes` repeats its last element.
fn grouped(number: &str, sizes: &[usize], separator: &str) -> String {
    let mut rest = number;
    let mut groups = Vec::new();
    for index in 0.. {
        let size = sizes[index.min(sizes.len() - 1)].min(rest.len());
        let (group, tail) = rest.split_at(size);
        groups.push(group);
        rest = tail;
        if rest.is_empty() {
            break;
        }
    }
    groups.join(separator)
}

fn digits_of(text: &str) -> String {
    text.chars().filter(char::is_ascii_digit).collect()
}

#[test]
fn every_published_test_number_keeps_six_and_four_digits() {
    for number in NUMBERS {
        let stars = "*".repeat(number.len() - 10);
        let expected = format!("{}{stars}{}", &number[..6], &number[number.len() - 4..]);
        assert_eq!(whole(number), expected);
        assert_eq!(found(number), [(0, number.len(), "pan".to_owned())]);
    }
}

#[test]
fn grouped_numbers_keep_their_separators() {
    assert_eq!(whole("4111 1111 1111 1111"), "4111 11** **** 1111");
    assert_eq!(whole("5555-5555-5555-4444"), "5555-55**-****-4444");
    assert_eq!(whole("3782 822463 10005"), "3782 82**** *0005");
    assert_eq!(whole("3056 930902 5904"), "3056 93**** 5904");
    assert_eq!(whole("4222 2222 2222 2"), "4222 22** *222 2");
    assert_eq!(whole("6205 5000 0000 0000 004"), "6205 50** **** ***0 004");
    assert_eq!(whole("620550 0000000000004"), "620550 *********0004");
}

#[test]
fn a_number_spread_over_arguments_is_masked_and_the_arguments_stay_apart() {
    let masked = Masked::new(b"pay\0--card\x004111\x001111\x001111 1111\0--now", Cut::Whole);
    let parts: Vec<&str> = masked.split('\0').collect();
    assert_eq!(parts, ["pay", "--card", "4111", "11**", "**** 1111", "--now"]);
}

#[test]
fn letters_may_touch_a_number_and_digits_may_not() {
    assert_eq!(whole("pan4111111111111111x"), "pan411111******1111x");
    assert_eq!(whole("--card=4111111111111111"), "--card=411111******1111");
    assert_eq!(whole("{\"n\":4111111111111111}"), "{\"n\":411111******1111}");
    let long = "100004111111111111111000000000";
    assert_eq!(whole(long), long);
}

#[test]
fn what_only_looks_like_a_number_stays() {
    for text in [
        "4111111111111112",
        "4111 1111 1111 1112",
        "0000000000000000",
        "2026-11-22T21:04:46.123456789Z",
        "4111:1111:1111:1111",
        "4111-1111 1111-1111",
        "41 11 11 11 11 11 11 11",
        "pid 4242 port 8080",
        "7f3c9a10-41d2-4e7b-9c1f-0123456789ab",
    ] {
        assert_eq!(whole(text), text);
    }
}

#[test]
fn numbers_behind_and_before_other_digits_are_found() {
    assert_eq!(whole("12 4111111111111111 99"), "12 411111******1111 99");
    assert_eq!(whole("2024 4111 1111 1111 1111 2025"), "2024 4111 11** **** 1111 2025");
    assert_eq!(whole("4111111111111111-2025"), "411111******1111-2025");
}

#[test]
fn a_card_number_that_a_program_took_for_a_measure_is_found() {
    assert_eq!(whole("{\"pan\":4111111111111111.0}"), "{\"pan\":411111******1111.0}");
    for amount in ["card total 4111111111111111.05", "4111111111111111.0"] {
        assert_eq!(whole(amount), amount);
    }
}

#[test]
fn overlapping_candidates_are_all_masked_and_reported_as_one() {
    // The last group of the first number begins the second.
    let text = "5555 5555 5555 4444 0000 0000 0006";
    let second = pan::is_card(b"4444000000000006");
    assert!(second, "the test needs two valid numbers");
    let masked = whole(text);
    assert_eq!(masked, "5555 55** **** 4444 00** **** 0006");
    assert_eq!(found(text).len(), 1);
}

#[test]
fn track_1_is_replaced_as_a_whole() {
    let track = "%B4111111111111111^DOE/JOHN ANN^29122010000000000000?";
    assert_eq!(whole(&format!("swipe {track} ok")), "swipe [SAD:track1] ok");
    assert_eq!(found(&format!("ab{track}c")), [(2, 2 + track.len(), "track1".to_owned())]);
    let without_end = "%B4111111111111111^DOE/JOHN^2912201000\nnext";
    assert_eq!(whole(without_end), "[SAD:track1]\nnext");
    let spaced = "%B3782 822463 10005^DOE/J^2912201?";
    assert_eq!(whole(spaced), "[SAD:track1]");
}

#[test]
fn track_2_is_replaced_with_and_without_sentinels() {
    assert_eq!(whole("a;4111111111111111=29122010000012345?b"), "a[SAD:track2]b");
    assert_eq!(whole("4111111111111111=29122010000012345"), "[SAD:track2]");
    assert_eq!(whole("57=4111111111111111D29122010000012345F "), "57=[SAD:track2] ");
    assert_eq!(whole(";1234567890123456=2912?"), "[SAD:track2]");
    assert_eq!(whole(";4111111111111111==201?"), "[SAD:track2]");
}

#[test]
fn an_equals_sign_alone_makes_no_track() {
    assert_eq!(whole("4111111111111111=29"), "411111******1111=29");
    assert_eq!(whole("a=b;123456789012345=x"), "a=b;123456789012345=x");
    assert_eq!(whole("1234567890123456=29122010000"), "1234567890123456=29122010000");
}

#[test]
fn expiry_dates_and_codes_are_taken_out_by_their_keys_and_beside_a_number() {
    assert_eq!(whole("<exp>10/30</exp>"), "<exp>[EXP]</exp>");
    assert_eq!(
        whole(r#"{"cvv":"123","exp_date": "12/2029"}"#),
        r#"{"cvv":"[SAD:cvv]","exp_date": "[EXP]"}"#
    );
    assert_eq!(whole("4111111111111111 06/26 073 x"), "411111******1111 [EXP] [SAD:cvv] x");
    assert_eq!(whole("4111111111111111|05|2031|610"), "411111******1111|[EXP]|[EXP]|[SAD:cvv]");
    assert_eq!(whole("pinblock=0412AC89ABCDEF67"), "pinblock=[SAD:pin]");
    for text in ["exp: 1732310123", "expect 12/29ths", "export=1229", "ping 1234", "decide: 123"] {
        assert_eq!(whole(text), text);
    }
}

#[test]
fn two_tracks_behind_each_other_are_two_findings() {
    let text = "%B4111111111111111^DOE/J^2912201?;4111111111111111=2912201?";
    assert_eq!(whole(text), "[SAD:track1][SAD:track2]");
    let kinds: Vec<String> = found(text).into_iter().map(|one| one.2).collect();
    assert_eq!(kinds, ["track1", "track2"]);
}

#[test]
fn every_beginning_of_a_number_at_a_cut_end_is_taken_out() {
    for number in NUMBERS {
        for separator in ["", " ", "\0", "\n", "\\n", "\u{a0}", "=20", "%20", "%2520", "%C2%A0"] {
            let spelling = grouped(number, &[4], separator).into_bytes();
            for length in 0..=spelling.len() {
                let text = [b"x ", &spelling[..length]].concat();
                // Right behind a line's end nothing tells that a number goes on.
                if text.ends_with(b"\n") || text.ends_with(b"\\n") {
                    continue;
                }
                let masked = Masked::new(&text, Cut::End).into_string();
                let left = digits_of(&masked.replace(separator, "")).len();
                let half = digits_of(separator).len();
                assert!(left < 4 + half, "{left} digits of {length} bytes: {masked}");
            }
        }
    }
}

#[test]
fn a_number_cut_behind_its_separator_is_taken_out() {
    assert_eq!(cut("pay 4111 1111 "), "pay **** **** ");
    assert_eq!(cut("pay 4111111111111111"), "pay ****************");
    assert_eq!(cut("--card\x004111\x00111"), "--card\0****\0***");
}

#[test]
fn digits_away_from_a_cut_end_stay() {
    assert_eq!(cut("port 8080 open"), "port 8080 open");
    assert_eq!(cut("exit 255"), "exit 255");
    assert_eq!(cut("20261122 at 12"), "20261122 at 12");
    let long = "100004111111111111111000000000";
    assert_eq!(cut(long), long);
}

#[test]
fn every_beginning_of_a_track_at_a_cut_end_is_taken_out() {
    let track1 = "%B4111111111111111^DOE/JOHN^29122010000000000000?";
    let track2 = ";4111111111111111=29122010000012345?";
    for track in [track1, track2, track2.trim_start_matches(';')] {
        for length in 0..=track.len() {
            let masked = cut(&format!("x {}", &track[..length])).replace("[SAD:track", "");
            assert!(digits_of(&masked).len() < 4, "{masked}");
            assert!(!masked.contains("DOE"), "{masked}");
        }
    }
}

#[test]
fn bytes_that_are_not_utf_8_hide_nothing() {
    let masked = Masked::new(b"\xff4111111111111111\xfe\xf0", Cut::Whole);
    assert_eq!(masked.as_str(), "\u{fffd}411111******1111\u{fffd}\u{fffd}");
    let [Finding { start: 1, end: 17, kind: Kind::Pan, brand: Some("visa"), .. }] =
        masked.findings()
    else {
        panic!("{masked:?}");
    };
}

#[test]
fn the_brand_table_knows_its_edges() {
    let allows = |prefix, digits| brands::lengths(prefix).allow(digits);
    assert!(allows(222_100, 16) && !allows(222_099, 16) && !allows(272_100, 16));
    assert!(allows(220_000, 16) && allows(220_499, 19) && !allows(220_500, 16));
    assert!(allows(340_000, 15) && !allows(340_000, 16));
    assert!(allows(411_111, 13) && !allows(411_111, 14));
    assert!(allows(979_200, 16) && !allows(979_300, 16));
    assert!(!allows(352_800, 15), "a phone's IMEI begins with 35 and has 15 digits");
}

fn any_digits_and_marks() -> impl Strategy<Value = Vec<u8>> {
    let alphabet = b"0123456789412345678 --\0%;^=?DBx\n\xff".to_vec();
    prop::collection::vec(prop::sample::select(alphabet), 0..200)
}

fn any_spelling() -> impl Strategy<Value = String> {
    let sizes = prop_oneof![Just(vec![19]), Just(vec![4]), Just(vec![4, 6, 5]), Just(vec![6, 13]),];
    let separator = prop::sample::select(vec![" ", "-", "\0", ".", "_", "/", "+", "\t", "\u{a0}"]);
    (prop::sample::select(NUMBERS.to_vec()), sizes, separator).prop_map(
        |(number, sizes, separator)| {
            // Not every number can be written in every layout.
            let fits = match sizes.as_slice() {
                [6, 13] => number.len() == 19,
                [4, 6, 5] => matches!(number.len(), 14 | 15),
                _ => true,
            };
            let sizes = if fits { sizes } else { vec![4] };
            grouped(number, &sizes, separator)
        },
    )
}

fn check_findings(input: &[u8], masked: &Masked) {
    let mut last = 0;
    for finding in masked.findings() {
        assert!(last <= finding.start && finding.start < finding.end);
        last = finding.end;
    }
    assert!(last <= input.len());
}

/// Numbers written beside each other without anything between, so that masks touch.
fn dense_numbers() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        any_spelling().prop_map(String::into_bytes),
        "[0-9]{1,6}".prop_map(String::into_bytes),
        Just(b" ".to_vec()),
        Just(b"-".to_vec()),
        Just(b"\0".to_vec()),
    ];
    prop::collection::vec(piece, 0..16).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes_are_masked_without_panic(
        input in prop::collection::vec(any::<u8>(), 0..300), end in any::<bool>()
    ) {
        let masked = Masked::new(&input, if end { Cut::End } else { Cut::Whole });
        check_findings(&input, &masked);
    }

    #[test]
    fn masking_again_finds_nothing(
        input in prop_oneof![any_digits_and_marks(), dense_numbers()], end in any::<bool>()
    ) {
        let cut = if end { Cut::End } else { Cut::Whole };
        let masked = Masked::new(&input, cut);
        check_findings(&input, &masked);
        let again = Masked::new(masked.as_str().as_bytes(), cut);
        prop_assert_eq!(again.findings(), []);
        prop_assert_eq!(again.as_str(), masked.as_str());
    }

    #[test]
    fn no_planted_number_survives_in_any_spelling(
        before in "[ -~]{0,20}[a-z=:/\"({]|", planted in any_spelling(),
        after in "|[a-zA-Z=:/\")}][ -~]{0,20}|[ -][a-z0-9]{0,9}"
    ) {
        let text = format!("{before}{planted}{after}");
        let number = digits_of(&planted);
        let masked = whole(&text);
        prop_assert!(!digits_of(&masked).contains(&number), "{} of {}", masked, text);
        prop_assert!(!masked.contains(&planted));
    }

    #[test]
    fn text_without_digits_is_unchanged(text in "[^0-9]{0,200}", end in any::<bool>()) {
        let cut = if end { Cut::End } else { Cut::Whole };
        let masked = Masked::new(text.as_bytes(), cut);
        prop_assert_eq!(masked.as_str(), &text);
        prop_assert_eq!(masked.findings(), []);
    }

    #[test]
    fn text_without_tracks_keeps_its_length(text in "[0-9 a-z-]{0,200}", end in any::<bool>()) {
        let cut = if end { Cut::End } else { Cut::Whole };
        prop_assert_eq!(Masked::new(text.as_bytes(), cut).as_str().len(), text.len());
    }
}

fn with(settings: Settings, text: &str) -> String {
    Masked::with(&Masker::new(settings).unwrap(), text.as_bytes(), Cut::Whole).into_string()
}

#[test]
fn numbers_are_shown_as_the_settings_say() {
    let shown =
        |rendering| with(Settings { rendering, ..Settings::default() }, "4111 1111 1111 1111");
    assert_eq!(shown(Rendering::Truncate), "4111 11** **** 1111");
    assert_eq!(shown(Rendering::Last4), "**** **** **** 1111");
    assert_eq!(shown(Rendering::Full), "**** **** **** ****");
}

#[test]
fn a_right_check_digit_alone_counts_beside_a_card_s_name_and_in_card_data() {
    let unknown = "9999999999999995";
    assert_eq!(whole(unknown), unknown);
    assert_eq!(whole(&format!("card {unknown}")), "card 999999******9995");
    let settings = Settings { card_data: true, ..Settings::default() };
    assert_eq!(with(settings, unknown), "999999******9995");
}

#[test]
fn fingerprints_are_equal_for_equal_numbers_under_one_key_and_absent_without() {
    let prints = |key: Option<u8>, text: &str| -> Vec<Option<Fingerprint>> {
        let fingerprint = key.map(|byte| FingerprintKey { id: "k1".to_owned(), key: [byte; 32] });
        let masker = Masker::new(Settings { fingerprint, ..Settings::default() }).unwrap();
        let (_, findings) = masker.mask(text.as_bytes(), Cut::Whole);
        findings.iter().map(|finding| finding.fingerprint).collect()
    };
    let text = "4111111111111111, %34111111111111111, 4111-1111-1111-1111, 5555555555554444";
    let found = prints(Some(1), text);
    let [Some(plain), Some(escaped), Some(grouped), Some(other)] = found[..] else {
        panic!("{found:?}")
    };
    assert!(plain == escaped && plain == grouped && plain != other);
    assert_ne!(prints(Some(2), text)[0], Some(plain));
    assert_eq!(prints(None, text), [None; 4]);
    let key = FingerprintKey { id: "k1".to_owned(), key: [7; 32] };
    assert_eq!(format!("{key:?}"), "FingerprintKey { id: \"k1\", .. }");
}

fn detector(pattern: &str, luhn: bool) -> Settings {
    let (name, pattern) = ("mine".to_owned(), pattern.to_owned());
    Settings { detectors: vec![Detector { name, pattern, luhn }], ..Settings::default() }
}

#[test]
fn patterns_fields_and_secrets_are_taken_out_where_the_settings_ask() {
    assert_eq!(with(detector("ACC-[0-9]{6}", false), "x ACC-123456 y"), "x [MASKED] y");
    assert_eq!(with(detector("L[0-9]{4}", true), "L1230 L1231"), "[MASKED] L1231");
    let fields = Settings { fields: vec!["iban".into(), "holder".into()], ..Settings::default() };
    assert_eq!(
        with(fields, r#"{"iban": "DE89 3704", "x": 1} holder=Ana&y"#),
        r#"{"iban": "[MASKED]", "x": 1} holder=[MASKED]&y"#
    );
    let secrets = |text: &str| with(Settings { secrets: true, ..Settings::default() }, text);
    assert_eq!(
        secrets("curl -H Authorization: Bearer abcdefghijklmnop123"),
        "curl -H Authorization: Bearer [SECRET]"
    );
    assert_eq!(secrets("mysql --password=hunter22 -u x"), "mysql --password=[SECRET] -u x");
    assert_eq!(secrets("postgres://app:hunter22@db/x"), "postgres://app:[SECRET]@db/x");
    let pem = "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEA1234567890abcdef\n-----END RSA";
    assert!(!secrets(pem).contains("MIIE"));
    for text in ["mysql --password=[SECRET] -u x", "Bearer [SECRET]"] {
        assert_eq!(secrets(text), text);
    }
}

#[test]
fn patterns_that_cannot_be_used_are_refused_with_a_sentence() {
    let refused = |pattern: &str| Masker::new(detector(pattern, false)).unwrap_err().to_string();
    let wrong = ["(", "a*", "(((a{1000}){1000}){1000})", "\\p{Greek}", &"a".repeat(1025)];
    for pattern in wrong {
        let message = refused(pattern);
        assert!(message.starts_with("detector \"mine\" cannot be used: "), "{message}");
    }
    let odd = Settings { fields: vec!["a b".into()], ..Settings::default() };
    assert!(Masker::new(odd).unwrap_err().to_string().contains("\"a b\""));
}

#[test]
fn detectors_give_the_same_for_any_split() {
    let settings = Settings { secrets: true, ..detector("x[0-9]+y|a.*b", false) };
    let masker = Masker::new(settings).unwrap();
    let text =
        format!("{} x123y --password=abcdefgh a{}b x9y\n", "z".repeat(3000), "-".repeat(5000))
            .repeat(5);
    let (whole, findings) = masker.mask(text.as_bytes(), Cut::Whole);
    for size in [1, 7, 1000, 4097] {
        let mut stream = Stream::new(&masker);
        let mut out = Vec::new();
        text.as_bytes().chunks(size).for_each(|piece| stream.push(piece, &mut out));
        stream.finish(&mut out);
        assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(&whole));
        assert_eq!(stream.take_findings(), findings);
    }
}

#[test]
fn a_flushed_number_shows_no_more_than_its_end_and_a_stream_holds_little_back() {
    let masker = Masker::standard();
    let mut stream = Stream::new(masker);
    let mut out = Vec::new();
    stream.push(b"pay 4111 1111", &mut out);
    stream.flush(&mut out);
    assert_eq!(out, b"pay **** ****");
    stream.push(b" 1111 1111\nport 8080\n", &mut out);
    stream.finish(&mut out);
    assert_eq!(String::from_utf8_lossy(&out), "pay **** **** **** ****\nport 8080\n");
    let (mut stream, mut seen) = (Stream::new(masker), Vec::new());
    for given in 1..40 {
        stream.push(&[b'7'; 1000], &mut seen);
        assert!(given * 1000 - seen.len() < 4096, "{} of {given} KB are out", seen.len());
    }
}

/// The text in pieces of these sizes, over and over.
fn streamed(text: &[u8], sizes: &[usize]) -> (Vec<u8>, Vec<Finding>) {
    let mut stream = Stream::new(Masker::standard());
    let (mut out, mut findings) = (Vec::new(), Vec::new());
    let (mut rest, mut sizes) = (text, sizes.iter().cycle());
    while !rest.is_empty() {
        let size = sizes.next().copied().unwrap_or(1).clamp(1, rest.len());
        let (piece, tail) = rest.split_at(size);
        stream.push(piece, &mut out);
        findings.extend(stream.take_findings());
        rest = tail;
    }
    stream.finish(&mut out);
    findings.extend(stream.take_findings());
    (out, findings)
}

/// Texts longer than what a stream holds back, full of things to find.
fn long_text() -> impl Strategy<Value = Vec<u8>> {
    let spelt = |number: &str| {
        let digits = || number.bytes();
        let escaped = |before: &str| {
            digits().flat_map(|b| format!("{before}{b:02x}").into_bytes()).collect::<Vec<u8>>()
        };
        vec![
            number.as_bytes().to_vec(),
            escaped("%"),
            escaped("\\u00"),
            escaped("%25"),
            escaped(""),
            digits().flat_map(|b| [b, 0]).collect(),
            number
                .chars()
                .map(|c| char::from_u32(u32::from(c) + 0xfee0).unwrap())
                .collect::<String>()
                .into_bytes(),
            b"cvv=123 exp: 12/29".to_vec(),
            b"%B4111111111111111^DOE/JOHN^29122010000000000000?".to_vec(),
            b"NDExMTExMTExMTExMTExMQ== ".to_vec(),
        ]
    };
    let piece = prop_oneof![
        4 => prop::sample::select(NUMBERS.to_vec())
            .prop_flat_map(move |number| prop::sample::select(spelt(number))),
        2 => dense_numbers(),
        2 => any_digits_and_marks(),
        1 => "[a-zA-Z0-9 +/]{0,120}".prop_map(String::into_bytes),
        1 => (0_usize..900).prop_map(|n| vec![b'3'; n]),
        1 => (0_usize..2000).prop_map(|n| vec![b'x'; n]),
        2 => Just(b" ".to_vec()),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn any_split_gives_what_the_whole_gives(
        text in long_text(), sizes in prop::collection::vec(1_usize..3000, 1..6)
    ) {
        let (whole, findings) = mask_bytes(&text, Cut::Whole);
        for sizes in [sizes, vec![1]] {
            let (pieces, found) = streamed(&text, &sizes);
            prop_assert_eq!(String::from_utf8_lossy(&pieces), String::from_utf8_lossy(&whole));
            prop_assert_eq!(&found, &findings);
        }
    }

    #[test]
    fn masking_encoded_text_again_finds_nothing(text in long_text(), end in any::<bool>()) {
        let cut = if end { Cut::End } else { Cut::Whole };
        let (masked, _) = mask_bytes(&text, cut);
        let (again, findings) = mask_bytes(&masked, cut);
        prop_assert_eq!(String::from_utf8_lossy(&again), String::from_utf8_lossy(&masked));
        prop_assert_eq!(findings, []);
    }

    #[test]
    fn all_ways_to_classify_agree(
        bytes in prop::collection::vec(any::<u8>(), 0..700), from in 0_usize..80
    ) {
        same_candidates(&bytes, from.min(bytes.len()));
    }

    #[test]
    fn all_ways_agree_on_digits_and_marks(bytes in long_text()) {
        let mut at = 0;
        while at < bytes.len() {
            at = same_candidates(&bytes, at);
        }
    }
}

/// Collects candidates in every way this machine has; returns up to where.
fn same_candidates(bytes: &[u8], from: usize) -> usize {
    let mut scalar = prefilter::Batch::new();
    let done = prefilter::collect_scalar(bytes, from, bytes.len(), &mut scalar);
    let expected: Vec<_> = scalar.iter().collect();
    #[cfg(target_arch = "x86_64")]
    for collect in [vectors::by_avx2, vectors::by_avx512] {
        let mut batch = prefilter::Batch::new();
        if let Some(reached) = collect(bytes, from, bytes.len(), &mut batch) {
            assert_eq!(reached, done);
            assert_eq!(batch.iter().collect::<Vec<_>>(), expected);
        }
    }
    done
}

#[test]
fn a_number_is_found_wherever_in_a_block_it_begins() {
    let wide: Vec<u8> = b"3782 822463 10005".iter().flat_map(|byte| [*byte, 0]).collect();
    let spelt: [&[u8]; 5] = [
        b"4111111111111111",
        b"3782 822463 10005",
        b"%34%31%31%31%31%31%31%31%31%31%31%31%31%31%31%31",
        b"NDExMTExMTExMTExMTExMQ==",
        &wide,
    ];
    for number in spelt {
        for before in 0..200 {
            let text = [&b"x".repeat(before), &b" "[..], number, b" y"].concat();
            let (_, findings) = mask_bytes(&text, Cut::Whole);
            assert_eq!(findings.len(), 1, "{before} bytes before {}", number.escape_ascii());
        }
    }
}

#[test]
fn no_digits_go_on_behind_a_flush_in_another_spelling() {
    let number = "4111111111111111";
    let each = |before: &str, after: &str| -> String {
        number.bytes().map(|byte| format!("{before}{byte:02x}{after}")).collect()
    };
    let spelt = [each("%", ""), each("\\x", ""), each("\\u00", ""), each("&#x", ";"), each("", "")];
    let base64 = "NDExMTExMTExMTExMTExMQ==".to_owned();
    for text in spelt.into_iter().chain([base64, grouped(number, &[4], "%20")]) {
        // Of base64, twelve letters are known at the earliest.
        let given = (4 * text.len() / 10).max(14);
        for size in [1, 5, 100] {
            let mut stream = Stream::new(Masker::standard());
            let mut out = Vec::new();
            stream.push(&text.as_bytes()[..given], &mut out);
            stream.flush(&mut out);
            let flushed = out.len();
            text.as_bytes()[given..].chunks(size).for_each(|part| stream.push(part, &mut out));
            stream.push(b" port 8080 ok\n", &mut out);
            stream.finish(&mut out);
            let shown = String::from_utf8_lossy(&out[flushed..]).into_owned();
            assert!(shown.ends_with(" port 8080 ok\n"), "{shown}");
            for digits in ["31", "31;", "1111", "MTEx", "ExMT", "xMTE"] {
                assert!(!shown.contains(digits), "{shown} of {text}");
            }
        }
    }
}
