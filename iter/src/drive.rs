//! `Drive`: the future of every terminal. It starts the lanes as one batch of children at
//! the first poll, and makes the result of their shares. How many there are is in `plan`.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use selvedge_cancel::quietly;
use selvedge_scope::Pool;
use selvedge_scope::batch::Batch;

use crate::lane::Lane;
use crate::one_by_one::OneByOne;
use crate::pipe::{Pipe, Shape};
use crate::plan::{Hint, Knobs, Plan};
use crate::shared::{Shared, let_go};
use crate::sink::{Sink, SinkShape};
use crate::source::Source;
use crate::sync::Arc;

pin_project! {
    /// The future of a terminal of a [`ParStream`](crate::ParStream).
    ///
    /// Nothing runs before the first poll. Its lanes run while it is polled, by the polling
    /// thread and, when that pays, by threads of the pool; between polls all is at rest.
    ///
    /// # Panics
    ///
    /// If a closure, future, iterator, stream or destructor of the pipeline panics: nothing
    /// new is begun, every item under way is awaited, then the first panic resumes here.
    /// Also if it is polled after it was ready.
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops all items that were taken and have not ended, and the source with
    /// the rest; it does not block. A cancelled scope does not end the intake: what runs
    /// inside the stages notices the cancellation and fails, and a fallible terminal ends
    /// with its error. The result covers all items or there is none.
    #[must_use = "futures do nothing unless polled"]
    pub struct Drive<P: Shape, S: SinkShape, O> {
        start: Option<(P, S, Knobs)>,
        place: &'static Location<'static>,
        shared: Option<Arc<Shared<P, S>>>,
        #[pin]
        lanes: Option<Batch<Lane<P, S>>>,
        out: PhantomData<fn() -> O>,
    }

    /// One after the other: two destructors that panic do not end the process.
    impl<P: Shape, S: SinkShape, O> PinnedDrop for Drive<P, S, O> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            let mut all = OneByOne::default();
            all.run(|| this.lanes.set(None));
            if let Some(shared) = this.shared.take() {
                Shared::let_go(shared, &mut all);
            }
            if let Some((pipe, sink, _)) = this.start.take() {
                let_go(pipe, sink, &mut all);
            }
            all.end();
        }
    }
}

impl<P: Shape, S: SinkShape, O> fmt::Debug for Drive<P, S, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drive")
            .field("started", &self.start.is_none())
            .finish_non_exhaustive()
    }
}

impl<P: Shape, S: SinkShape, O> Drive<P, S, O> {
    #[track_caller]
    pub(crate) fn new(pipe: P, sink: S, knobs: Knobs) -> Self {
        Self {
            start: Some((pipe, sink, knobs)),
            place: Location::caller(),
            shared: None,
            lanes: None,
            out: PhantomData,
        }
    }
}

impl<P: Pipe, S: Sink<P::Item, Out = O>, O> Future for Drive<P, S, O> {
    type Output = O;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<O> {
        let mut this = self.project();
        if let Some((pipe, sink, knobs)) = this.start.take() {
            let shared = this
                .shared
                .insert(Arc::new(lay_out(pipe, sink, &knobs, this.place)));
            this.lanes.set(Some(start(shared, knobs, this.place)));
        }
        let lanes = this
            .lanes
            .as_mut()
            .as_pin_mut()
            .expect("a terminal was polled after its end");
        let polled = catch_unwind(AssertUnwindSafe(|| lanes.poll(cx)));
        let shares = match polled {
            Ok(polled) => ready!(polled),
            Err(payload) => {
                // What is left of the pipeline goes here, where a destructor that panics, too, does not end the process.
                quietly(|| this.lanes.set(None));
                if let Some(shared) = this.shared.take() {
                    Shared::let_go(shared, &mut OneByOne::default());
                }
                resume_unwind(payload);
            }
        };
        this.lanes.set(None);
        let shared = this
            .shared
            .take()
            .expect("lanes and what they share start together");
        let out = match catch_unwind(AssertUnwindSafe(|| shared.sink.finish(shares))) {
            Ok(out) => out,
            Err(payload) => {
                Shared::let_go(shared, &mut OneByOne::default());
                resume_unwind(payload);
            }
        };
        let has_failed = S::FAILS && !shared.takes();
        // Before it is in the caller's place, where a panic of what the pipeline captured would leak it.
        let mut all = OneByOne::default();
        Shared::let_go(shared, &mut all);
        if let Some(payload) = all.first() {
            if has_failed {
                // The error comes first, and what comes with it is dropped.
                quietly(|| drop(payload));
                return Poll::Ready(out);
            }
            quietly(|| drop(out));
            resume_unwind(payload);
        }
        Poll::Ready(out)
    }
}

/// What the lanes of a pipeline will share.
fn lay_out<P: Pipe, S: Sink<P::Item>>(
    pipe: P,
    sink: S,
    knobs: &Knobs,
    place: &'static Location<'static>,
) -> Shared<P, S> {
    // Threads that may work on it: the helpers, and the one that polls.
    let helpers = knobs
        .pool
        .as_ref()
        .map_or_else(|| Pool::global().most_helpers(), Pool::most_helpers);
    let upper = match catch_unwind(AssertUnwindSafe(|| pipe.source().upper())) {
        Ok(upper) => upper,
        Err(payload) => {
            let_go(pipe, sink, &mut OneByOne::default());
            resume_unwind(payload);
        }
    };
    let plan = Plan::new::<P>(knobs, helpers.saturating_add(1), upper);
    let runs = has_runs::<P, S>(knobs);
    Shared::new(pipe, sink, plan, knobs.ordered, runs, place)
}

/// Whether lanes have to keep runs apart.
pub(crate) fn has_runs<P: Pipe, S: Sink<P::Item>>(knobs: &Knobs) -> bool {
    knobs.ordered && (S::RUNS || P::KEEPS)
}

/// The lanes, as children of one window.
fn start<P: Pipe, S: Sink<P::Item>>(
    shared: &Arc<Shared<P, S>>,
    knobs: Knobs,
    place: &'static Location<'static>,
) -> Batch<Lane<P, S>> {
    let lanes = (0..shared.plan.lanes).map(|lane| Lane::new(shared, lane));
    let mut batch = Batch::at(place, lanes);
    if let Some(pool) = &knobs.pool {
        batch = batch.on(pool);
    }
    if let Some(name) = knobs.name {
        batch = batch.name(name);
    }
    batch = match knobs.hint {
        Some(Hint::Heavy) => batch.heavy(),
        Some(Hint::Cheap) => batch.cheap(),
        None => batch,
    };
    shared.set_token(batch.token());
    batch
}
