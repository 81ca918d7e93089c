//! Tests of the pattern's meaning against a matcher written another way.

use proptest::prelude::*;

use super::Glob;

/// The meaning of a pattern by recursion over its text; exponential, for short texts only.
pub(crate) fn by_recursion(pattern: &str, path: &[u8]) -> bool {
    fn go(pattern: &[u8], path: &[u8], after_slash: bool) -> bool {
        let suffixes = || (0..=path.len()).map(|n| path.split_at(n));
        if after_slash && let Some(rest) = pattern.strip_prefix(b"**/") {
            return go(rest, path, true)
                || suffixes()
                    .any(|(skipped, tail)| skipped.ends_with(b"/") && go(rest, tail, true));
        }
        if let Some(rest) = pattern.strip_prefix(b"**") {
            return suffixes().any(|(_, tail)| go(rest, tail, false));
        }
        match pattern.split_first() {
            None => path.is_empty(),
            Some((b'*', rest)) => {
                suffixes().any(|(skipped, tail)| !skipped.contains(&b'/') && go(rest, tail, false))
            }
            Some((b'?', rest)) => suffixes().skip(1).any(|(taken, tail)| {
                taken[0] != b'/'
                    && taken[0] & 0xc0 != 0x80
                    && taken[1..].iter().all(|b| b & 0xc0 == 0x80)
                    && go(rest, tail, false)
            }),
            Some((byte, rest)) => path.first() == Some(byte) && go(rest, &path[1..], *byte == b'/'),
        }
    }
    go(pattern.as_bytes(), path, false)
}

/// Patterns over few letters, so that they meet the paths of [`path`].
pub(crate) fn pattern() -> impl Strategy<Value = String> {
    let part = prop::sample::select(vec!["a", "b", "é", "*", "**", "?", "/", "/**/", "a/b", "sh"]);
    prop::collection::vec(part, 1..7).prop_map(|parts| {
        let mut text = format!("/{}", parts.concat());
        while text.contains("//") || text.contains("***") {
            text = text.replace("//", "/").replace("***", "**");
        }
        match text.trim_end_matches('/') {
            "" => "/a".to_owned(),
            trimmed => trimmed.to_owned(),
        }
    })
}

/// Paths over the same letters.
pub(crate) fn path() -> impl Strategy<Value = Vec<u8>> {
    let part = prop::sample::select(vec!["a", "b", "é", "/", "sh", "z", "/a/b", "/b"]);
    let text = prop::collection::vec(part, 0..7).prop_map(|p| format!("/{}", p.concat()));
    let absolute = text.prop_map(|t| t.replace("//", "/").into_bytes());
    prop_oneof![9 => absolute, 1 => prop::collection::vec(any::<u8>(), 0..6)]
}

fn glob(text: &str) -> Glob {
    Glob::parse(text).unwrap()
}

#[test]
fn stars_stop_at_slashes_and_double_stars_do_not() {
    assert!(glob("/usr/bin/*sh").matches(b"/usr/bin/bash"));
    assert!(glob("/usr/bin/*sh").matches(b"/usr/bin/sh"));
    assert!(!glob("/usr/bin/*sh").matches(b"/usr/bin/x/sh"));
    assert!(glob("/usr/**sh").matches(b"/usr/bin/x/zsh"));
    assert!(glob("/opt/**").matches(b"/opt/a/b"));
    assert!(!glob("/opt/**").matches(b"/opt"));
    assert!(glob("/opt/**/sh").matches(b"/opt/sh"));
    assert!(glob("/opt/**/sh").matches(b"/opt/a/b/sh"));
    assert!(!glob("/opt/**/sh").matches(b"/opt/xsh"));
    assert!(glob("/b?sh").matches("/bésh".as_bytes()));
    assert!(!glob("/b??sh").matches("/bésh".as_bytes()));
    assert!(!glob("/b?sh").matches(b"/b/sh"));
}

#[test]
fn patterns_that_cannot_mean_anything_are_refused_with_the_remedy() {
    for (text, word) in [
        ("bin/sh", "absolute"),
        ("", "absolute"),
        ("/bin/[ab]", "`[`"),
        ("/bin/{a,b}", "`{`"),
        ("/bin/\\*", "`\\`"),
        ("/opt/", "append `**`"),
        ("/a//b", "empty"),
        ("/a/../b", "`..`"),
        ("/a/***", "`***`"),
        ("/a\0", "NUL"),
    ] {
        let error = Glob::parse(text).unwrap_err();
        assert!(error.contains(word), "{text}: {error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_pattern_means_the_same_by_recursion(pattern in pattern(), path in path()) {
        let glob = Glob::parse(&pattern).unwrap();
        prop_assert_eq!(glob.matches(&path), by_recursion(&pattern, &path));
    }
}
