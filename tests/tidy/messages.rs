//! What panics, reports and notes of the compiler tell a reader to write exists: each piece of code that they mention
//! in backticks stands below, beside code that the compiler has accepted and that uses the same words.
//! Not about what the messages say otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::future::ready;

use selvedge::{
    Cancelled, OrCancel, Pool, Select, TimedOut, Timeout, cancel, prelude::*, select, select_safe,
    timeout, try_timeout,
};

use crate::source::{files, words};

/// Pairs each piece of code with a block that uses it. The blocks are compiled as one `async` block each.
macro_rules! mentioned {
    (in $s:ident: $($text:literal => $code:block)*) => {
        const MENTIONED: &[(&str, &str)] = &[$(($text, stringify!($code))),*];

        /// Never called: that it compiles is the test.
        #[allow(dead_code, unused_variables, unused_must_use)]
        fn compiled($s: Scope<'_>) {
            $(drop(async { $code });)*
        }
    };
}

mentioned! { in s:
    "`Cancelled`" => { Cancelled::new("enough") }
    "`Debug`" => {
        #[derive(Debug)]
        struct Mine;
        timeout(std::time::Duration::MAX, async { Mine }).await
    }
    "`Result`" => {
        try_timeout(std::time::Duration::MAX, async { Result::<_, TimedOut>::Ok(1) }).await
    }
    "`Shield`" => {
        let shielded: cancel::Shield<_> = cancel::shield_unbounded(ready(1));
        shielded.await
    }
    "`timeout`" => { timeout(std::time::Duration::MAX, ready(1)).await }
    "`try_timeout`" => {
        try_timeout(std::time::Duration::MAX, async { Ok::<_, TimedOut>(1) }).await
    }
    "`build`" => { Pool::builder().build() }
    "`complete`" => { select! { complete => 1 } }
    "`else`" => { select! { else => 1 } }
    "`let mut h = s.spawn(fut);`" => {
        let fut = ready(1);
        let mut h = s.spawn(fut);
        (&mut h).await
    }
    "`pattern = future => handler`" => {
        let (future, handler) = (ready(1), 2);
        select! { pattern = future => handler + pattern }
    }
    "`select!`" => { select! { x = ready(1) => x } }
    "`select_safe(fut)`" => {
        let fut = async { 1 };
        select! { x = select_safe(fut) => x }
    }
    "`select_safe(scope(…))`" => { select! { x = select_safe(scope(async |_| 1)) => x } }
    "`try_spawn`" => { s.try_spawn(ready(1)).map_err(|refused| refused.into_inner()) }
    "`x = &mut h => …`" => {
        let mut h = s.spawn(ready(1));
        select! { x = &mut h => x }
    }
    "`OrCancel`" => {
        let cancellable: OrCancel<_> = ready(1).or_cancel();
        cancellable.await
    }
    "`Select`" => {
        let first: Select<_> = selvedge::select((ready(1), ready(2)));
        first.await
    }
    "`Timeout`" => {
        let limited: Timeout<_> = timeout(std::time::Duration::MAX, ready(1));
        limited.await
    }
}

/// The pieces in backticks of all texts of the crates, each with a file that has it. What a text leaves to be filled
/// in, such as the name of a scope, is no code.
fn found() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for source in files(&["rs"]) {
        let shipped = ["cancel/src", "scope/src", "iter/src", "src"];
        let is_test = source.path.contains("/models/") || source.path.ends_with("tests.rs");
        if is_test || !shipped.iter().any(|folder| source.is_below(folder)) {
            continue;
        }
        for text in source.shipped_texts() {
            for piece in text.split('`').skip(1).step_by(2) {
                if !piece.contains('{') {
                    found.insert(format!("`{piece}`"), source.path.clone());
                }
            }
        }
    }
    found
}

#[test]
fn code_that_messages_mention_exists() {
    let found = found();
    assert!(found.len() >= 10, "the messages mention more: {found:?}");
    let listed: BTreeSet<_> = MENTIONED.iter().map(|(text, _)| *text).collect();
    let new: Vec<_> = found
        .iter()
        .filter(|(text, _)| !listed.contains(text.as_str()))
        .collect();
    assert!(
        new.is_empty(),
        "messages mention these; add each to `mentioned!`, with code that uses it: {new:?}"
    );
    let old: Vec<_> = listed
        .iter()
        .filter(|text| !found.contains_key(**text))
        .collect();
    assert!(old.is_empty(), "no message mentions these: {old:?}");
}

#[test]
fn code_beside_what_messages_mention_uses_its_words() {
    for (text, code) in MENTIONED {
        let used: BTreeSet<_> = words(code).collect();
        let missing: Vec<_> = words(text).filter(|word| !used.contains(word)).collect();
        assert!(missing.is_empty(), "{text} has {missing:?}, {code} has not");
        assert!(words(text).count() > 0, "{text}");
    }
}
