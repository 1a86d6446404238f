//! Runs a scope of the plan: opens it, polls, drops or forgets it, and judges how it ended. Not what its members do.

use std::future::Future;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc::Sender;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt;
use selvedge::time::Instant;
use selvedge::{CancelToken, Cancelled, ScopeErrors, scope, try_scope};

use crate::handles::{
    AnyScope, Home, Job, Payload, Settings, Slots, either, join_after_end, may_come, result, text,
};
use crate::members::{Checked, Level, Open};
use crate::ops::{Ctx, body};
use crate::plan::{Fate as ScopeFate, Kind, ScopePlan};
use crate::values::{Failure, NO_RUN, Output, Plain, drop_payload, quietly};
use crate::world::{Fate, WORLD, lock};

/// How what was driven came to its end.
pub(crate) enum Way<T> {
    Done(T),
    Panicked(Payload),
    Dropped,
    Forgotten,
}

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Polls a scope, batch or pipeline as its fate says, and sees that nothing is left in it.
pub(crate) struct Driven<'a, T> {
    future: Option<Boxed<'a, T>>,
    level: &'a Level,
    fate: ScopeFate,
    polls: u32,
    what: &'static str,
}

impl<'a, T> Driven<'a, T> {
    pub(crate) fn new(
        future: Boxed<'a, T>,
        level: &'a Level,
        fate: ScopeFate,
        what: &'static str,
    ) -> Self {
        Self {
            future: Some(future),
            level,
            fate,
            polls: 0,
            what,
        }
    }

    /// Drops it, and gives the panic that came of it.
    fn end(&mut self) -> Option<Payload> {
        let future = self.future.take()?;
        let dropped = catch_unwind(AssertUnwindSafe(|| drop(future)));
        self.level.is_over(self.what);
        dropped.err()
    }
}

impl<T> Drop for Driven<'_, T> {
    fn drop(&mut self) {
        match self.end() {
            Some(payload) if !std::thread::panicking() => resume_unwind(payload),
            Some(payload) => drop_payload(payload),
            None => {}
        }
    }
}

impl<T> Future for Driven<'_, T> {
    type Output = Way<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Way<T>> {
        let this = &mut *self;
        match this.fate {
            ScopeFate::Drop(polls) if polls == this.polls => {
                return Poll::Ready(this.end().map_or(Way::Dropped, Way::Panicked));
            }
            ScopeFate::Forget(polls) if polls == this.polls => {
                WORLD.forget();
                mem::forget(this.future.take());
                return Poll::Ready(Way::Forgotten);
            }
            _ => this.polls += 1,
        }
        let future = this.future.as_mut().expect("it has not ended");
        let open = Open::enter(this.level);
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx)));
        drop(open);
        match polled {
            Ok(Poll::Pending) => {
                let (ScopeFate::Drop(polls) | ScopeFate::Forget(polls)) = this.fate else {
                    return Poll::Pending;
                };
                if polls == this.polls {
                    cx.waker().wake_by_ref();
                }
                Poll::Pending
            }
            Ok(Poll::Ready(output)) => {
                this.level.is_over(this.what);
                match this.end() {
                    Some(payload) => Poll::Ready(Way::Panicked(payload)),
                    None => Poll::Ready(Way::Done(output)),
                }
            }
            Err(payload) => {
                this.level.is_over(this.what);
                this.end().into_iter().for_each(drop_payload);
                Poll::Ready(Way::Panicked(payload))
            }
        }
    }
}

/// What the body of a scope returns.
struct Body {
    run: usize,
    output: Plain,
}

impl Body {
    fn new(run: usize) -> Self {
        Self {
            run,
            output: Plain::make(run),
        }
    }
}

/// What a scope gave.
enum Raw {
    Plain(Result<Body, Cancelled>),
    Try(Result<Body, Failure>),
    All(Result<Body, ScopeErrors<Failure>>),
}

pub(crate) fn micros(micros: u32) -> Duration {
    Duration::from_micros(micros.into())
}

macro_rules! with_knobs {
    ($scoped:expr, $plan:expr, $settings:expr, $followed:expr) => {{
        let (mut scoped, knobs) = ($scoped, &$plan.knobs);
        if knobs.inline {
            scoped = scoped.inline();
        }
        if let Some(pool) = knobs.pool {
            scoped = scoped.on(&$settings.pools[usize::from(pool)]);
        }
        if knobs.name {
            scoped = scoped.name(format!("scope of {}", $plan.body.id));
        }
        if let Some(after) = knobs.timeout {
            scoped = scoped.timeout(micros(after));
        }
        if let Some(after) = knobs.deadline {
            scoped = scoped.deadline(Instant::now() + micros(after));
        }
        if let Some(after) = knobs.stop_within {
            scoped = scoped.stop_within(micros(after));
        }
        if knobs.token {
            scoped = scoped.token($followed);
        }
        scoped
    }};
}

/// Runs a scope to where the plan wants it, and gives the panic that came out of it.
pub(crate) fn run_scope<'e>(
    level: &'e Level,
    plan: &'e ScopePlan,
    settings: &'e Settings,
    remote: Option<Sender<Job<'e>>>,
) -> impl Future<Output = Option<Payload>> + Send + 'e {
    async move {
        let followed = CancelToken::new();
        let slots = Arc::new(Slots::default());
        let run = WORLD.new_run();
        let home = |scope| Home {
            scope,
            level,
            settings,
            slots: slots.clone(),
            followed: followed.clone(),
            remote: remote.clone(),
        };
        let mut kept = None;
        let mut start = |scope: AnyScope<'e>| {
            let home = home(scope);
            kept = Some(home.clone());
            for early in &plan.early {
                drop(home.spawn(early));
            }
            let cx = Ctx::new(home, plan.body.id);
            Checked::<_, ()>::new(level, run, body(cx, plan, run))
        };
        let scoped: Boxed<'e, Raw> = match plan.kind {
            Kind::Plain => {
                let scoped = scope(|s| start(AnyScope::Plain(s)).map(move |_| Body::new(run)));
                let scoped = with_knobs!(scoped, plan, settings, &followed);
                match plan.knobs.grace {
                    None => Box::pin(scoped.map(|body| Raw::Plain(Ok(body)))),
                    Some(grace) => Box::pin(scoped.grace(micros(grace)).map(Raw::Plain)),
                }
            }
            Kind::Try | Kind::TryAll => {
                let scoped = try_scope(|s| {
                    let body = start(AnyScope::Try(s));
                    body.map(move |ended| {
                        result::<Plain>(ended, run).map(|output| Body { run, output })
                    })
                });
                let mut scoped = with_knobs!(scoped, plan, settings, &followed);
                if let Some(grace) = plan.knobs.grace {
                    scoped = scoped.grace(micros(grace));
                }
                match plan.kind {
                    Kind::TryAll => Box::pin(scoped.all_errors().map(Raw::All)),
                    _ => Box::pin(scoped.map(Raw::Try)),
                }
            }
        };
        let way = Driven::new(scoped, level, plan.fate, "a scope").await;
        let is_forgotten = matches!(way, Way::Forgotten);
        let payload = judge(way, level, plan, run);
        if let Some(home) = kept {
            if !is_forgotten {
                look_after_end(&home);
            }
        }
        let handles: Vec<_> = {
            let shared = mem::take(&mut *lock(&slots.shared));
            shared
                .into_iter()
                .chain(mem::take(&mut *lock(&slots.kept)))
                .collect()
        };
        for handle in handles {
            let mut payload = None;
            quietly(|| payload = join_after_end(handle, is_forgotten));
            payload.into_iter().for_each(drop_payload);
        }
        payload
    }
}

/// A scope that is over has no children and takes none.
fn look_after_end(home: &Home<'_>) {
    let len = either!(&home.scope, scope => scope.len());
    if len != 0 {
        WORLD.fail(format!("a scope that is over has {len} children"));
    }
    if home.spawn_tiny().is_some() {
        WORLD.fail("a scope that is over took a child");
    }
    either!(&home.scope, scope => {
        scope.cancel();
        drop(scope.token());
    });
}

/// Compares what came out of a scope with what its members returned.
fn judge(way: Way<Raw>, level: &Level, plan: &ScopePlan, run: usize) -> Option<Payload> {
    let (panicked, failed) = (level.panicked.load(SeqCst), level.failed.load(SeqCst));
    let returned = failed + level.cut.load(SeqCst);
    let graced = plan.knobs.grace.is_some();
    let raw = match way {
        Way::Done(raw) => raw,
        Way::Panicked(payload) => {
            if panicked == 0 && !may_come(&payload) {
                WORLD.fail(format!(
                    "a scope panicked, and no member did: {}",
                    text(&payload)
                ));
            }
            return Some(payload);
        }
        Way::Dropped | Way::Forgotten => return None,
    };
    if panicked > 0 {
        WORLD.fail(format!(
            "{panicked} members panicked, and their scope did not"
        ));
    }
    let value = |body: &Body| {
        if body.run != run || !body.output.is_of(run) || WORLD.fate(run) != Fate::Value {
            WORLD.fail(format!(
                "a scope gave a value, and its body is {:?}",
                WORLD.fate(run)
            ));
        }
        if failed > 0 && plan.kind != Kind::Plain {
            WORLD.fail(format!(
                "{failed} members failed, and their scope gave a value"
            ));
        }
    };
    let error = |error: &Failure| {
        error.look();
        match error.run {
            NO_RUN if graced => {}
            NO_RUN => WORLD.fail("a scope failed with an error that no member returned"),
            run if WORLD.fate(run) != Fate::Error => {
                WORLD.fail("an error came of a member that did not fail")
            }
            _ => {}
        }
    };
    match &raw {
        Raw::Plain(Ok(body)) | Raw::Try(Ok(body)) | Raw::All(Ok(body)) => value(body),
        Raw::Plain(Err(_)) => {}
        Raw::Try(Err(failure)) => error(failure),
        Raw::All(Err(errors)) => {
            errors
                .iter()
                .chain(&errors.cancelled)
                .for_each(|each| error(&each.error));
            let own = usize::from(errors.primary.error.run == NO_RUN);
            let listed = errors.len() + errors.cancelled.len();
            if listed != returned + own {
                WORLD.fail(format!("{returned} errors were returned, {listed} are listed ({own} of them the grace's)"));
            }
        }
    }
    quietly(|| drop(raw));
    None
}
