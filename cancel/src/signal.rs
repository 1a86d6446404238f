//! Ctrl-C as a wish to stop, and more of it as more than that (feature `signal`).
//!
//! This crate starts no thread to listen; the crate `ctrlc` has one, which calls us. Not for other signals: a program
//! that hears them any way it likes calls `stop`, `cancel` and `abort` itself.

use std::{io, process};

use crate::node::Node;
use crate::sync::{Arc, Mutex, Weak, lock};
use crate::{CallbacksElsewhere, CancelToken, Cause, CauseKind, Phase};

/// Who listens.
struct Listeners {
    is_installed: bool,
    /// Each with how often it has heard. Weak: a token that is dropped is forgotten.
    tokens: Vec<(Weak<Node>, u8)>,
}

static LISTENERS: Mutex<Listeners> = Mutex::new(Listeners {
    is_installed: false,
    tokens: Vec::new(),
});

/// What a shell reports of a program that SIGINT has ended.
const INTERRUPTED: i32 = 130;

impl CancelToken {
    /// From now on the first Ctrl-C stops this token, the second cancels it, the third aborts it, and a fourth ends
    /// the process with the status 130.
    ///
    /// The causes have the text "Ctrl-C"; their kind is `Shutdown`, that of the abort `GraceExpired`. Any number of
    /// tokens may listen, each of which counts from its own call on. A token is forgotten when its last handle is
    /// dropped: that of a scope when the scope has ended. When none is left to listen, Ctrl-C ends the process
    /// with the status 130, as if nobody ever had.
    ///
    /// For the whole process this takes the place of whatever handled Ctrl-C (on Unix: SIGINT), for good. The
    /// [`on_cancel`](Self::on_cancel) functions that a Ctrl-C reaches are called on a thread of their own, so one that
    /// does not return does not keep the next Ctrl-C from being heard. Wakers are called on the thread that listens.
    ///
    /// # Examples
    /// ```
    /// use selvedge_cancel::CancelToken;
    ///
    /// let program = CancelToken::new();
    /// program.on_ctrl_c()?;
    /// assert!(!program.is_stopping());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// When the system refuses, or when the program uses the crate `ctrlc` by itself, which allows one handler.
    pub fn on_ctrl_c(&self) -> io::Result<()> {
        let mut listeners = lock(&LISTENERS);
        if !listeners.is_installed {
            // Not `try_set_handler`: a program started in the background has SIGINT ignored, which that
            // takes for a handler of somebody else.
            ctrlc::set_handler(hear).map_err(io::Error::other)?;
            listeners.is_installed = true;
        }
        // Asked without upgrading: a node that is dropped here would be dropped under the lock.
        let tokens = &mut listeners.tokens;
        tokens.retain(|(token, _)| token.strong_count() > 0);
        let own = Arc::downgrade(self.node());
        if !tokens.iter().any(|(token, _)| token.ptr_eq(&own)) {
            tokens.push((own, 0));
        }
        Ok(())
    }
}

/// One Ctrl-C, on the thread of `ctrlc`.
fn hear() {
    let heard: Vec<_> = lock(&LISTENERS)
        .tokens
        .iter_mut()
        .filter_map(|(token, count)| {
            let node = token.upgrade()?;
            *count = count.saturating_add(1);
            Some((node, *count))
        })
        .collect();
    if heard.is_empty() || heard.iter().any(|(_, count)| *count > 3) {
        process::exit(INTERRUPTED);
    }
    // The next Ctrl-C is heard by this very thread: it must not wait for a function of the user's.
    let _elsewhere = CallbacksElsewhere::begin();
    for (node, count) in heard {
        let (phase, kind) = match count {
            1 => (Phase::Stopping, CauseKind::Shutdown),
            2 => (Phase::Cancelled, CauseKind::Shutdown),
            _ => (Phase::Aborting, CauseKind::GraceExpired),
        };
        node.raise(phase, Cause::new(kind).with_text("Ctrl-C"));
    }
}
