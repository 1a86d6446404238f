//! Which values hold a `Cancelled` that is counted at a token, as a search finds it. What scopes, limits and streams
//! make of that is tested with them.
#![cfg(not(selvedge_loom))]

use std::cell::{Cell, OnceCell};
use std::fmt::{self, Debug};
use std::io;

use selvedge_cancel::{CancelToken, Cancelled, ambient, check, is_searching};

/// What an operation fails with in code that runs under this token.
fn fail(token: &CancelToken) -> Cancelled {
    let before = ambient::replace(Some(token.clone()));
    let failed = check().expect_err("it is cancelled");
    ambient::replace(before);
    failed
}

fn cancelled() -> CancelToken {
    let token = CancelToken::new();
    token.cancel();
    token
}

#[test]
fn what_is_counted_at_the_token_is_found_and_nothing_else() {
    let top = CancelToken::new();
    let (scope, beside) = (top.child(), top.child());
    let task = scope.child();
    scope.cancel();
    beside.cancel();
    let (error, _lives) = (fail(&task), fail(&beside));
    for (token, any, own) in [
        (&task, true, false),
        (&scope, true, true),
        (&top, false, false),
        (&beside, false, false),
    ] {
        assert_eq!(token.has_live_in(&error), any);
        assert_eq!(token.has_live_own_in(&error), own);
        assert!(!token.has_live_in(&Cancelled::uncounted("by the engine")));
        assert!(!token.has_live_in(&error.cause().clone()));
    }
}

#[test]
fn value_is_printed_only_while_a_counted_one_lives() {
    struct Printed<'a>(&'a Cell<u32>);
    impl Debug for Printed<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            assert!(is_searching());
            self.0.set(self.0.get() + 1);
            f.write_str("printed")
        }
    }
    let (token, printed) = (cancelled(), Cell::new(0));
    assert!(!token.has_live_in(&Printed(&printed)));
    assert_eq!(printed.get(), 0);
    let kept = fail(&token);
    assert!(!token.has_live_in(&Printed(&printed)));
    assert_eq!(printed.get(), 2, "in each of the two forms");
    drop(kept);
    assert!(!token.has_live_in(&Printed(&printed)));
    assert_eq!(printed.get(), 2);
    assert!(!is_searching());
}

#[test]
fn what_is_printed_outside_of_a_search_is_complete() {
    let token = cancelled();
    let error = io::Error::from(fail(&token));
    assert!(token.has_live_in(&error));
    assert!(format!("{error:?}").contains("Requested"));
    assert!(error.to_string().starts_with("cancelled: requested"));
}

#[test]
fn panic_ends_a_search_and_leaves_no_trace() {
    struct Panics(Option<Cancelled>);
    impl Debug for Panics {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.0.fmt(f)?;
            panic!("printed")
        }
    }
    let token = cancelled();
    let _lives = fail(&token);
    assert!(!token.has_live_in(&Panics(None)));
    assert!(!is_searching());
    assert!(token.has_live_in(&Panics(Some(fail(&token)))));
    assert!(!is_searching());
}

#[test]
fn search_works_in_the_destructor_of_a_thread_local() {
    struct Late(Cell<Option<std::sync::mpsc::Sender<bool>>>);
    impl Drop for Late {
        fn drop(&mut self) {
            let token = cancelled();
            let error = fail(&token);
            let sender = self.0.take().expect("it was put in");
            sender.send(token.has_live_in(&error)).unwrap();
        }
    }
    thread_local! {
        static LATE: Late = const { Late(Cell::new(None)) };
    }
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::spawn(move || LATE.with(|late| late.0.set(Some(send))))
        .join()
        .unwrap();
    assert_eq!(receive.recv(), Ok(true));
}

#[test]
fn cancellation_of_a_token_is_the_cause_of_what_was_met_anywhere_below_it() {
    let top = CancelToken::new();
    let (scope, beside) = (top.child(), top.child());
    let task = scope.child();
    beside.cancel();
    let alone = fail(&beside.child());
    task.cancel();
    let of_the_task = fail(&task);
    assert!(!scope.is_cause_of(&of_the_task), "it is not cancelled");
    scope.cancel();
    let (own, sibling) = (fail(&scope), fail(&scope.child()));
    for error in [&own, &sibling] {
        assert!(scope.is_cause_of(error));
    }
    for error in [&alone, &of_the_task, &Cancelled::uncounted("by the engine")] {
        assert!(!scope.is_cause_of(error));
    }
    top.cancel();
    let from_above = fail(&top.child());
    assert!(scope.is_cause_of(&from_above) && scope.is_cause_of(&vec![&alone, &from_above]));
    assert!(!scope.is_cause_of(&alone) && !top.is_cause_of(&own));
}

/// A list whose `Debug` calls itself for each link, and whose drop does not.
#[derive(Debug)]
struct List {
    _value: Option<Cancelled>,
    next: Option<Box<List>>,
}

impl Drop for List {
    fn drop(&mut self) {
        let mut next = self.next.take();
        while let Some(mut link) = next {
            next = link.next.take();
        }
    }
}

#[test]
fn value_of_any_depth_is_searched_without_overflowing_the_stack() {
    let search = || {
        let token = cancelled();
        let holds_at = |depth: usize, len: usize| {
            let mut list = None;
            for at in (0..len).rev() {
                list = Some(Box::new(List {
                    _value: (at == depth).then(|| fail(&token)),
                    next: list,
                }));
            }
            (token.has_live_in(&list), token.is_cause_of(&list))
        };
        let _lives = fail(&token);
        assert_eq!(holds_at(30, 100), (true, true));
        assert_eq!(holds_at(30, 100_000), (true, true));
        assert_eq!(holds_at(99_999, 100_000), (false, false));
    };
    let small = std::thread::Builder::new().stack_size(512 << 10);
    small.spawn(search).unwrap().join().unwrap();
}

// An error may have something to print that takes long, as `anyhow` has its backtrace.
#[test]
fn nothing_is_printed_once_it_is_found() {
    /// As `anyhow` does it: what it is made of, or the text and what comes with it.
    struct Traced<'a>(Option<Wrapped>, &'a Cell<u32>);
    struct Wrapped(Cancelled);

    impl Debug for Wrapped {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_tuple("Wrapped").field(&self.0).finish()
        }
    }
    impl fmt::Display for Wrapped {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("wrapped")
        }
    }
    impl Debug for Traced<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match &self.0 {
                Some(error) if f.alternate() => Debug::fmt(error, f)?,
                Some(error) => write!(f, "{error}")?,
                None => f.write_str("nothing")?,
            }
            if !f.alternate() {
                self.1.set(self.1.get() + 1);
            }
            Ok(())
        }
    }
    /// Its text alone tells of it.
    struct Text<'a>(Cancelled, &'a Cell<u32>);

    impl Debug for Text<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{}", self.0)?;
            self.1.set(self.1.get() + 1);
            Ok(())
        }
    }
    let (token, traces) = (cancelled(), Cell::new(0));
    let kept = fail(&token);
    assert!(token.has_live_in(&Traced(Some(Wrapped(fail(&token))), &traces)));
    assert!(token.has_live_in(&Text(fail(&token), &traces)));
    assert!(token.has_live_in(&vec![Some(Text(fail(&token), &traces)), None]));
    assert_eq!(traces.get(), 0);
    assert!(!token.has_live_in(&Traced(None, &traces)));
    assert_eq!(traces.get(), 1);
    drop(kept);
}

// A search left its mark in what was printed during it.
#[test]
fn text_that_an_error_makes_once_and_keeps_is_complete() {
    struct Kept(Cancelled, OnceCell<String>);

    impl Debug for Kept {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.1.get_or_init(|| format!("{}, {:?}", self.0, self.0)))
        }
    }

    let token = cancelled();
    let error = Kept(fail(&token), OnceCell::new());
    let (text, debug) = (error.0.to_string(), format!("{:?}", error.0));
    assert!(token.has_live_in(&error));
    assert_eq!(format!("{error:?}"), format!("{text}, {debug}"));
}
