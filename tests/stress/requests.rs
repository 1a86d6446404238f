//! Requests and questions: cancel, stop, abort, deadlines, tokens and their callbacks; and what must be seen at once
//! after each. Not how a cancellation ends a member.

use selvedge::time::Instant;
use selvedge::{CancelToken, Phase, cancel};

use crate::agents;
use crate::handles::{Home, either};
use crate::ops::{Ctx, Holds};
use crate::plan::Request;
use crate::scopes::micros;
use crate::values::{FromDrop, burn};
use crate::world::{Counted, Kind, WORLD};

/// Makes a request, and asks whether it is seen.
pub(crate) fn ask(cx: &Ctx<'_, '_>, request: Request, seed: u64, holds: &mut Holds<'_>) {
    let scope = &cx.home.scope;
    match request {
        Request::Cancel => {
            either!(scope, scope => scope.cancel());
            is_seen(cx, "cancel");
        }
        Request::Stop => {
            either!(scope, scope => scope.stop());
            if !either!(scope, scope => scope.is_stopping()) {
                WORLD.fail("a scope was stopped, and is not stopping");
            }
        }
        Request::Abort => {
            either!(scope, scope => scope.token().abort());
            is_seen(cx, "abort");
        }
        Request::DeadlinePast => {
            either!(scope, scope => scope.set_deadline(Instant::now()));
            is_seen(cx, "set_deadline(now)");
        }
        Request::DeadlineIn(time) => {
            either!(scope, scope => scope.set_deadline(Instant::now() + micros(time)));
        }
        Request::NoDeadline => either!(scope, scope => scope.set_deadline(None)),
        Request::CancelFollowed => cx.home.followed.cancel_with("followed"),
        Request::CancelLate(time) => {
            let token = either!(scope, scope => scope.token());
            agents::send(move || {
                burn(time);
                token.cancel();
            });
        }
        Request::OnCancel { keep, panics } => {
            let counted = Counted::new(Kind::Callback);
            let called = cancel::current().on_cancel(move |_| {
                counted.look();
                agents::stir(seed, 1);
                if panics && !std::thread::panicking() {
                    std::panic::panic_any(FromDrop);
                }
            });
            if keep {
                holds.callbacks.push(called);
            }
        }
        Request::Tokens => tokens(),
    }
}

/// A tree of tokens below the current one, which is used and thrown away.
fn tokens() {
    let current = cancel::current();
    let (below, beside) = (current.child(), CancelToken::new());
    beside.attach_to(&below);
    let counted = Counted::new(Kind::Callback);
    let called = beside.on_cancel(move |_| counted.look());
    let guard = below.clone().drop_guard();
    if beside.phase() > Phase::Stopping && !current.is_cancelled() {
        WORLD.fail("a token is cancelled, and nothing above it is");
    }
    drop(guard);
    if !beside.is_cancelled() {
        WORLD.fail("a token was cancelled, and one below it is not");
    }
    drop(called);
}

/// The scope was cancelled a moment ago, by this member.
fn is_seen(cx: &Ctx<'_, '_>, what: &str) {
    if !either!(&cx.home.scope, scope => scope.is_cancelled()) {
        WORLD.fail(format!("after {what} the scope is not cancelled"));
    }
    if cx.exposed && cancel::check().is_ok() {
        WORLD.fail(format!("after {what} the member does not see it"));
    }
}

/// Looks at everything.
pub(crate) fn look(cx: &Ctx<'_, '_>) {
    cx.level.look();
    remote_look(&cx.home, false);
    let _ = (cancel::deadline(), cancel::remaining());
    let was = cancel::check().is_err();
    let current = cancel::current();
    if was && !current.is_cancelled() {
        WORLD.fail("the member is cancelled, and its token is not");
    }
    drop(format!("{current:?} {:?}", current.cause()));
}

/// What any thread may ask a scope.
pub(crate) fn remote_look(home: &Home<'_>, cancelled: bool) {
    home.level.look();
    let (is_cancelled, len) = either!(&home.scope, scope => {
        let _ = (scope.is_empty(), scope.is_stopping(), format!("{scope:?}"));
        (scope.is_cancelled(), scope.len())
    });
    if cancelled && !is_cancelled {
        WORLD.fail("a scope that was cancelled from another thread is not");
    }
    if len > 1 << 20 {
        WORLD.fail(format!("a scope says that it has {len} children"));
    }
}
