//! The builder methods that every kind of scope has, written once. Not those that change its output.

/// The shared knobs, for an `impl` block of a type with the fields `engine` and `following`.
macro_rules! knobs {
    () => {
        /// Names the scope, for messages and inspection. The first name stays.
        pub fn name(self, name: impl Into<Cow<'static, str>>) -> Self {
            let _ = self.engine.settings().name.set(name.into());
            self
        }

        /// Polls every child on the thread that polls the scope: for a body that holds a lock which children
        /// take, such as that of `stdout`. Children must be `Send` all the same.
        pub fn inline(self) -> Self {
            self.engine.settings().said.inline();
            self
        }

        /// Says that each poll of its children computes for long: 100 µs, or more. The first hint of a scope stays.
        ///
        /// Nobody has to say so: the engine times polls, and learns what each kind of future costs. A hint spares it
        /// what it does until it knows, and what it does where polls of one kind differ much: with this one it asks for
        /// help before the first poll, hands children over one by one, and never takes them back for being cheap. If
        /// it is wrong, that costs some 0.1 µs a child, and the threads of the pool are kept awake.
        ///
        /// # Examples
        /// ```
        /// use selvedge_scope::{block_on, scope};
        ///
        /// let sum: u64 = block_on(scope(async |s| {
        ///     let parts = [0, 1].map(|n| s.spawn_fn(move || (n * 500_000..(n + 1) * 500_000).sum::<u64>()));
        ///     let [low, high] = parts;
        ///     low.await + high.await
        /// }).heavy());
        /// assert_eq!(sum, 499_999_500_000);
        /// ```
        pub fn heavy(self) -> Self {
            self.engine.settings().said.hint(Hint::Heavy);
            self
        }

        /// Says that the polls of its children are short, as those of most code are that waits for sockets and channels.
        ///
        /// As [`heavy`](Self::heavy), the other way round: no help is asked for because nothing is known of them. Those
        /// that turn out to compute for long are shared as always. For a scope that opens for a moment in code where
        /// waking a thread of the pool, some 10 µs, would be felt.
        pub fn cheap(self) -> Self {
            self.engine.settings().said.hint(Hint::Cheap);
            self
        }

        /// Lends children to this pool instead of the global one. The first pool given stays.
        pub fn on(self, pool: &Pool) -> Self {
            self.engine.settings().pool.set(pool);
            self
        }

        /// Cancels the scope this long after its first poll, with cause `Deadline`. It is a request: awaits
        /// begin to fail, and the scope still waits for body and children. The sooner of several limits holds.
        ///
        /// Futures that know nothing of our cancellation are waited for, however long they take; wrap them
        /// in [`or_cancel`](selvedge_cancel::FutureCancelExt::or_cancel). The output keeps its type: operations
        /// that the body awaits fail with `Cancelled`.
        ///
        /// **A body that has returned has its value all the same**, `Ok` of a `try_scope` included, although children
        /// were cut short: they were asked for nothing but to end. Where the whole has to be done in time, put
        /// [`try_timeout`](crate::try_timeout) around the scope, or [`timeout`](crate::timeout), which tell of the
        /// deadline by `TimedOut`; or have the body await the handles.
        #[track_caller]
        pub fn timeout(self, after: Duration) -> Self {
            let place = Location::caller();
            self.engine.settings().limits().timeout(after, place);
            self
        }

        /// Cancels the scope at this moment, as [`timeout`](Self::timeout); at once, if it has passed.
        #[track_caller]
        pub fn deadline(self, at: Instant) -> Self {
            let place = Location::caller();
            self.engine.settings().limits().deadline(at, place);
            self
        }

        /// How long after a graceful stop the cancellation follows, with cause `Deadline`.
        ///
        /// The time counts from the stop, whatever tasks of the scope do meanwhile; where a timer other than the
        /// embedded one is in force, from the first poll that sees the stop.
        #[track_caller]
        pub fn stop_within(self, after: Duration) -> Self {
            let place = Location::caller();
            self.engine.settings().limits().stop_within(after, place);
            self
        }

        /// Puts the scope under this token too, besides whatever it is inside of: stopped, cancelled and
        /// aborted with either.
        pub fn token(mut self, token: &CancelToken) -> Self {
            let following = self.engine.follow(token);
            self.following.push((token.clone(), following));
            self
        }
    };
}

/// What every handle to a scope can ask it, for an `impl` block of a type with the field `handle`.
macro_rules! requests {
    () => {
        /// Asks the body, all children, and everything below them to stop.
        #[track_caller]
        pub fn cancel(&self) {
            let cause = Cause::new(CauseKind::Requested);
            self.handle
                .cancel_with(cause.with_place(Location::caller()));
        }

        /// As [`cancel`](Self::cancel), and says why. The first cause stays.
        #[track_caller]
        pub fn cancel_with(&self, cause: impl Into<Cause>) {
            let cause = cause.into();
            let cause = match cause.place() {
                Some(_) => cause,
                None => cause.with_place(Location::caller()),
            };
            self.handle.cancel_with(cause);
        }

        /// Asks for a graceful end: nothing fails, but whoever waits for
        /// [`stopping`](selvedge_cancel::stopping) learns of it, and ends when it suits.
        #[track_caller]
        pub fn stop(&self) {
            let cause = Cause::new(CauseKind::Requested);
            self.handle.stop_with(cause.with_place(Location::caller()));
        }

        /// Moves the scope's deadline, sooner or later; `None` removes it. What the builder set is replaced.
        ///
        /// A deadline that has passed cancels at once. One that has cut the scope short is not taken back.
        #[track_caller]
        pub fn set_deadline(&self, at: impl Into<Option<Instant>>) {
            self.handle.set_deadline(at.into(), Location::caller());
        }

        /// The scope's token: cancelled with the scope, and it cancels the scope.
        #[must_use]
        pub fn token(&self) -> CancelToken {
            self.handle.token()
        }

        /// Whether the scope, or anything it is inside of, was asked to stop at once.
        #[must_use]
        pub fn is_cancelled(&self) -> bool {
            self.handle.is_cancelled()
        }

        /// Whether the scope, or anything it is inside of, was asked to end, gracefully or at once.
        #[must_use]
        pub fn is_stopping(&self) -> bool {
            self.handle.phase() >= Phase::Stopping
        }

        /// How many children have not ended; a snapshot.
        #[must_use]
        pub fn len(&self) -> usize {
            self.handle.len()
        }

        /// Whether every child has ended; a snapshot.
        #[must_use]
        pub fn is_empty(&self) -> bool {
            self.len() == 0
        }
    };
}

pub(crate) use {knobs, requests};
