//! What a pool of our own is to be like: the number of its threads, their stack, their names, and what each does first.
//!
//! Not the pool itself, nor when its threads start: that is `pool.rs`.

use std::borrow::Cow;
use std::env;
use std::fmt;
use std::sync::Arc;
use std::thread::available_parallelism;

use crate::pool::Pool;
use crate::task::quietly;

/// Stack of a pool thread unless told otherwise. Nested scopes are polled on top of each other there, as anywhere
/// else, so it is that of a main thread and not the 2 MiB of other threads.
const STACK: usize = 8 << 20;

/// Configures a [`Pool`].
///
/// # Examples
/// ```
/// use selvedge_scope::{Pool, block_on, scope};
///
/// let pool = Pool::builder()
///     .threads(2)
///     .name("loom") // the threads are `loom-0` and `loom-1`
///     .stack_size(32 << 20) // 32 MiB each
///     .start_handler(|index| println!("thread {index} of the loom has started"))
///     .build();
/// let sum = block_on(scope(async |s| s.spawn(async { 1 + 1 }).await).on(&pool));
/// assert_eq!(sum, 2);
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `build`"]
pub struct PoolBuilder {
    count: Option<usize>,
    threads: Threads,
}

impl PoolBuilder {
    pub(crate) fn new() -> Self {
        Self {
            count: None,
            threads: Threads::default(),
        }
    }

    /// How many threads help; the polling thread comes on top. Zero makes scopes concurrent, but not
    /// parallel. The default is the number of cores.
    pub fn threads(mut self, threads: usize) -> Self {
        self.count = Some(threads);
        self
    }

    /// How many bytes of stack each thread of the pool has.
    ///
    /// The default is 8 MiB, or the number of bytes in the environment variable `RUST_MIN_STACK` if that is more.
    /// The standard library reads this variable for the threads that it starts; here it only ever adds, because a
    /// program that sets it wants no less than it would have had. A size given here holds whatever the variable
    /// says. Either way the system may round it up.
    ///
    /// The polling thread has the stack that your program gave it; tasks run there too, so a deep recursion needs
    /// room in both. If the system has no room for the stacks, the threads do not start; see
    /// [`build`](Self::build).
    ///
    /// # Examples
    /// ```
    /// use selvedge_scope::Pool;
    ///
    /// let deep = Pool::builder().stack_size(64 << 20).build(); // 64 MiB
    /// ```
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.threads.stack_size = Some(bytes);
        self
    }

    /// Names the threads of the pool: `name-0`, `name-1` and so on. The default is `selvedge`.
    ///
    /// The names stand in panic messages, debuggers and profilers; Linux shows the first 15 bytes of each.
    ///
    /// # Panics
    /// If the name contains a zero byte, which the name of a thread cannot.
    #[track_caller]
    pub fn name(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        let name = name.into();
        assert!(
            !name.contains('\0'),
            "the name of a pool, {name:?}, contains a zero byte"
        );
        self.threads.name = name;
        self
    }

    /// Calls a function on each thread of the pool when it starts, with the number of the thread, from 0.
    ///
    /// It runs once a thread, before the thread helps for the first time: for the priority of a thread, its cores, or
    /// the registration with a profiler. The threads start when help is first asked for, and that does not wait
    /// for the function; a thread in which it takes long helps later.
    ///
    /// The function must not leave the thread inside a tokio runtime, by an `EnterGuard` that it forgets for example: a
    /// thread that is in a runtime already helps no scope. Helpers enter the runtime of the scope by themselves.
    ///
    /// A second call replaces the function of the first. A panic in the function is caught: the panic hook prints its
    /// message, and the thread helps all the same.
    ///
    /// # Examples
    /// ```
    /// use selvedge_scope::Pool;
    ///
    /// let pool = Pool::builder()
    ///     .threads(1)
    ///     .start_handler(|index| eprintln!("helper {index} is there"))
    ///     .build();
    /// ```
    pub fn start_handler(mut self, handler: impl Fn(usize) + Send + Sync + 'static) -> Self {
        self.threads.start_handler = StartHandler(Some(Arc::new(handler)));
        self
    }

    /// The pool. Its threads start when help is first asked for; should they fail to, scopes that use the
    /// pool run on the thread that polls them.
    #[must_use]
    pub fn build(self) -> Pool {
        let cores = || available_parallelism().map_or(1, usize::from);
        Pool::own(self.count.unwrap_or_else(cores), self.threads)
    }
}

/// What the threads of a pool are to be like.
#[derive(Clone, Debug)]
pub(crate) struct Threads {
    stack_size: Option<usize>,
    name: Cow<'static, str>,
    start_handler: StartHandler,
}

impl Default for Threads {
    fn default() -> Self {
        Self {
            stack_size: None,
            name: Cow::Borrowed("selvedge"),
            start_handler: StartHandler(None),
        }
    }
}

impl Threads {
    /// In bytes.
    pub(crate) fn stack_size(&self) -> usize {
        self.stack_size
            .unwrap_or_else(|| default_stack(env::var("RUST_MIN_STACK").ok()))
    }

    pub(crate) fn name(&self) -> Cow<'static, str> {
        self.name.clone()
    }

    pub(crate) fn start_handler(&self) -> StartHandler {
        self.start_handler.clone()
    }
}

/// The default, given what `RUST_MIN_STACK` says. What is no number is passed over, as the standard library does.
fn default_stack(least: Option<String>) -> usize {
    let least = least.and_then(|text| text.parse().ok());
    least.unwrap_or(0).max(STACK)
}

/// A user's function, whose panics are caught, and those of its destructor.
#[derive(Clone)]
pub(crate) struct StartHandler(Option<Arc<dyn Fn(usize) + Send + Sync>>);

impl StartHandler {
    pub(crate) fn call(&self, index: usize) {
        if let Some(handler) = &self.0 {
            quietly(|| handler(index));
        }
    }
}

impl Drop for StartHandler {
    fn drop(&mut self) {
        // Mostly on a thread of the pool that ends, where nobody would catch it.
        quietly(|| drop(self.0.take()));
    }
}

impl fmt::Debug for StartHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_there = self.0.is_some();
        f.debug_tuple("StartHandler").field(&is_there).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::{STACK, default_stack};

    #[test]
    fn least_stack_of_the_environment_adds_and_never_takes_away() {
        let stack = |text: &str| default_stack(Some(text.to_owned()));
        assert_eq!(default_stack(None), STACK);
        assert_eq!(stack("67108864"), 64 << 20);
        assert_eq!(stack("1048576"), STACK);
        assert_eq!(stack("64 MiB"), STACK);
        assert_eq!(stack("-1"), STACK);
    }
}
